/**
 * Image messages: cpuinfo_x86_entry, cpuinfo_ppc64_entry, cpuinfo_s390_entry, cpuinfo_entry.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "./codec/schema.js";

export const cpuinfoX86EntryVendor = enumeration("vendor", {
  UNKNOWN: 0,
  INTEL: 1,
  AMD: 2,
});

export const cpuinfoX86Entry = message("cpuinfo_x86_entry", () => ({
  vendor_id: required.enum(1, () => cpuinfoX86EntryVendor),
  cpu_family: required.uint32(2),
  model: required.uint32(3),
  stepping: required.uint32(4),
  capability_ver: required.uint32(5),
  capability: repeated.uint32(6),
  model_id: optional.string(7),
  xfeatures_mask: optional.uint64(8),
  xsave_size: optional.uint32(9),
  xsave_size_max: optional.uint32(10),
}));
export type CpuinfoX86Entry = Infer<typeof cpuinfoX86Entry>;

export const cpuinfoPpc64EntryEndianness = enumeration("endianness", {
  BIGENDIAN: 0,
  LITTLEENDIAN: 1,
});

export const cpuinfoPpc64Entry = message("cpuinfo_ppc64_entry", () => ({
  endian: required.enum(1, () => cpuinfoPpc64EntryEndianness),
  hwcap: repeated.uint64(2),
}));
export type CpuinfoPpc64Entry = Infer<typeof cpuinfoPpc64Entry>;

export const cpuinfoS390Entry = message("cpuinfo_s390_entry", () => ({
  hwcap: repeated.uint64(2),
}));
export type CpuinfoS390Entry = Infer<typeof cpuinfoS390Entry>;

export const cpuinfoEntry = message("cpuinfo_entry", () => ({
  x86_entry: repeated.message(1, () => cpuinfoX86Entry),
  ppc64_entry: repeated.message(2, () => cpuinfoPpc64Entry),
  s390_entry: repeated.message(3, () => cpuinfoS390Entry),
}));
export type CpuinfoEntry = Infer<typeof cpuinfoEntry>;
