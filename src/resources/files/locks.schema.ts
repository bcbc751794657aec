/**
 * Image messages: file_lock_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const fileLockEntry = message("file_lock_entry", () => ({
  flag: required.uint32(1),
  type: required.uint32(2),
  pid: required.int32(3),
  fd: required.int32(4),
  start: required.int64(5),
  len: required.int64(6),
}));
export type FileLockEntry = Infer<typeof fileLockEntry>;
