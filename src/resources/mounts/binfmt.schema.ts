/**
 * Image messages: binfmt_misc_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const binfmtMiscEntry = message("binfmt_misc_entry", () => ({
  name: required.string(1),
  enabled: required.bool(2),
  interpreter: required.string(3),
  flags: optional.string(4),
  extension: optional.string(5),
  magic: optional.string(6),
  mask: optional.string(7),
  offset: optional.int32(8),
}));
export type BinfmtMiscEntry = Infer<typeof binfmtMiscEntry>;
