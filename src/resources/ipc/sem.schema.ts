/**
 * Image messages: ipc_sem_entry, floe_sem_undo.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";
import { ipcDescEntry } from "./descriptor.schema.js";

/** What the kernel adds to a semaphore when a process ends. */
export const floeSemUndo = message("floe_sem_undo", () => ({
  pid: required.uint32(1),
  semaphore: required.uint32(2),
  by: required.sint32(3),
}));
export type FloeSemUndo = Infer<typeof floeSemUndo>;

export const ipcSemEntry = message("ipc_sem_entry", () => ({
  desc: required.message(1, () => ipcDescEntry),
  nsems: required.uint32(2),
  undo: repeated.message(1000, () => floeSemUndo, { floe: true }),
}));
export type IpcSemEntry = Infer<typeof ipcSemEntry>;
