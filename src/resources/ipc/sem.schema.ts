/**
 * Image messages: ipc_sem_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";
import { ipcDescEntry } from "./descriptor.schema.js";

export const ipcSemEntry = message("ipc_sem_entry", {
  desc: required.message(1, () => ipcDescEntry),
  nsems: required.uint32(2),
});
export type IpcSemEntry = Infer<typeof ipcSemEntry>;
