/**
 * Image messages: vma_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const vmaEntry = message("vma_entry", {
  start: required.uint64(1),
  end: required.uint64(2),
  pgoff: required.uint64(3),
  shmid: required.uint64(4),
  prot: required.uint32(5),
  flags: required.uint32(6),
  status: required.uint32(7),
  fd: required.sint64(8),
  madv: optional.uint64(9),
  fdflags: optional.uint32(10),
});
export type VmaEntry = Infer<typeof vmaEntry>;
