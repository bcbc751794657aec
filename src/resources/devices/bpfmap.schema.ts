/**
 * Image messages: bpfmap_file_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const bpfmapFileEntry = message("bpfmap_file_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { flags: "rfile.flags" }),
  pos: required.uint64(3),
  fown: required.message(4, () => fownEntry),
  map_type: required.uint32(5),
  key_size: required.uint32(6),
  value_size: required.uint32(7),
  map_id: required.uint32(8),
  max_entries: required.uint32(9),
  map_flags: required.uint32(10),
  memlock: required.uint64(11),
  frozen: required.bool(12, { default: false }),
  map_name: required.string(13),
  ifindex: required.uint32(14, { default: 0 }),
  mnt_id: optional.sint32(15, { default: -1 }),
  map_extra: optional.uint64(16),
}));
export type BpfmapFileEntry = Infer<typeof bpfmapFileEntry>;
