/**
 * Image messages: sysctl_entry, SysctlType.
 */
import { type Infer, enumeration, message, optional, required } from "../../images/codec/schema.js";

export const sysctlType = enumeration("SysctlType", {
  CTL_STR: 5,
  CTL_32: 6,
});

export const sysctlEntry = message("sysctl_entry", () => ({
  type: required.enum(1, () => sysctlType),
  iarg: optional.int32(2),
  sarg: optional.string(3),
}));
export type SysctlEntry = Infer<typeof sysctlEntry>;
