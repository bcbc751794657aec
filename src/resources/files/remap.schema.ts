/**
 * Image messages: remap_file_path_entry, remap_type.
 */
import { type Infer, enumeration, message, optional, required } from "../../images/codec/schema.js";

export const remapType = enumeration("remap_type", {
  LINKED: 0,
  GHOST: 1,
  PROCFS: 2,
});

export const remapFilePathEntry = message("remap_file_path_entry", () => ({
  orig_id: required.uint32(1),
  remap_id: required.uint32(2),
  remap_type: optional.enum(3, () => remapType),
}));
export type RemapFilePathEntry = Infer<typeof remapFilePathEntry>;
