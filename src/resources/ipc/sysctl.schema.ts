/**
 * Image messages: ipc_var_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const ipcVarEntry = message("ipc_var_entry", () => ({
  sem_ctls: repeated.uint32(1),
  msg_ctlmax: required.uint32(2),
  msg_ctlmnb: required.uint32(3),
  msg_ctlmni: required.uint32(4),
  auto_msgmni: required.uint32(5),
  shm_ctlmax: required.uint64(6),
  shm_ctlall: required.uint64(7),
  shm_ctlmni: required.uint32(8),
  shm_rmid_forced: required.uint32(9),
  mq_queues_max: required.uint32(10),
  mq_msg_max: required.uint32(11),
  mq_msgsize_max: required.uint32(12),
  mq_msg_default: optional.uint32(13),
  mq_msgsize_default: optional.uint32(14),
  msg_next_id: optional.uint32(15),
  sem_next_id: optional.uint32(16),
  shm_next_id: optional.uint32(17),
}));
export type IpcVarEntry = Infer<typeof ipcVarEntry>;
