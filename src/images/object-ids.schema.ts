/**
 * Image message task_kobj_ids_entry: which kernel objects (memory, file table, namespaces, ...) a task shares with others.
 */
import { type Infer, message, optional, required } from "./codec/schema.js";

export const taskKobjIdsEntry = message("task_kobj_ids_entry", () => ({
  vm_id: required.uint32(1),
  files_id: required.uint32(2),
  fs_id: required.uint32(3),
  sighand_id: required.uint32(4),
  pid_ns_id: optional.uint32(5),
  net_ns_id: optional.uint32(6),
  ipc_ns_id: optional.uint32(7),
  uts_ns_id: optional.uint32(8),
  mnt_ns_id: optional.uint32(9),
  user_ns_id: optional.uint32(10),
  cgroup_ns_id: optional.uint32(11),
  time_ns_id: optional.uint32(12),
}));
export type TaskKobjIdsEntry = Infer<typeof taskKobjIdsEntry>;
