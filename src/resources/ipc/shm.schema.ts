/**
 * Image messages: ipc_shm_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";
import { ipcDescEntry } from "./descriptor.schema.js";

export const ipcShmEntry = message("ipc_shm_entry", () => ({
  desc: required.message(1, () => ipcDescEntry),
  size: required.uint64(2),
  in_pagemaps: optional.bool(3),
  hugetlb_flag: optional.uint32(4),
  /** It has been removed, and goes with its last user. */
  removed: optional.bool(1000, { floe: true }),
  /** shmctl(SHM_LOCK) */
  locked: optional.bool(1001, { floe: true }),
}));
export type IpcShmEntry = Infer<typeof ipcShmEntry>;
