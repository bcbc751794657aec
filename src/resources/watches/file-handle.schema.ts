/**
 * Image messages: fh_entry, irmap_cache_entry, fh_entry_sizes.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../../images/codec/schema.js";

export const fhEntrySizes = enumeration("fh_entry_sizes", {
  min_entries: 16,
});

export const fhEntry = message("fh_entry", () => ({
  bytes: required.uint32(1),
  type: required.uint32(2),
  handle: repeated.uint64(3),
  path: optional.string(4),
  mnt_id: optional.uint32(5),
  /** Of a file without a name: a process that has it open, and the descriptor there. */
  holder: optional.int32(1000, { floe: true }),
  holder_fd: optional.uint32(1001, { floe: true }),
}));
export type FhEntry = Infer<typeof fhEntry>;

export const irmapCacheEntry = message("irmap_cache_entry", () => ({
  dev: required.uint32(1, { odev: true }),
  inode: required.uint64(2),
  path: required.string(3),
}));
export type IrmapCacheEntry = Infer<typeof irmapCacheEntry>;
