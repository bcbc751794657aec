/**
 * Image messages: fs_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const fsEntry = message("fs_entry", () => ({
  cwd_id: required.uint32(1),
  root_id: required.uint32(2),
  umask: optional.uint32(3),
}));
export type FsEntry = Infer<typeof fsEntry>;
