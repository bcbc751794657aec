/**
 * Image messages: reg_file_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "./owner.schema.js";

export const regFileEntry = message("reg_file_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { flags: "rfile.flags" }),
  pos: required.uint64(3),
  fown: required.message(5, () => fownEntry, { alike: true }),
  name: required.string(6),
  mnt_id: optional.sint32(7, { default: -1 }),
  size: optional.uint64(8),
  ext: optional.bool(9),
  mode: optional.uint32(10),
  build_id: repeated.uint32(11),
  checksum: optional.uint32(12),
  checksum_config: optional.uint32(13),
  checksum_parameter: optional.uint32(14),
  /** Its record in floe-carried.img. */
  carried: optional.uint32(1000, { floe: true }),
  /** Of a reader of /dev/kmsg: the number of the record that comes next, and of the boot whose log it is. */
  log_next: optional.uint64(1001, { floe: true }),
  log_boot: optional.string(1002, { floe: true }),
}));
export type RegFileEntry = Infer<typeof regFileEntry>;
