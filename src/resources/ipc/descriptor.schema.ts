/**
 * Image messages: ipc_desc_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const ipcDescEntry = message("ipc_desc_entry", () => ({
  key: required.uint32(1),
  uid: required.uint32(2),
  gid: required.uint32(3),
  cuid: required.uint32(4),
  cgid: required.uint32(5),
  mode: required.uint32(6),
  id: required.uint32(7),
}));
export type IpcDescEntry = Infer<typeof ipcDescEntry>;
