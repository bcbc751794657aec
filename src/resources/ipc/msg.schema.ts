/**
 * Image messages: ipc_msg, ipc_msg_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";
import { ipcDescEntry } from "./descriptor.schema.js";

export const ipcMsg = message("ipc_msg", () => ({
  mtype: required.uint64(1),
  msize: required.uint32(2),
}));
export type IpcMsg = Infer<typeof ipcMsg>;

export const ipcMsgEntry = message("ipc_msg_entry", () => ({
  desc: required.message(1, () => ipcDescEntry),
  qbytes: required.uint32(2),
  qnum: required.uint32(3),
}));
export type IpcMsgEntry = Infer<typeof ipcMsgEntry>;
