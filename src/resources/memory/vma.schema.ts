/**
 * Image messages: vma_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const vmaEntry = message("vma_entry", () => ({
  start: required.uint64(1, { hex: true }),
  end: required.uint64(2, { hex: true }),
  pgoff: required.uint64(3),
  shmid: required.uint64(4),
  prot: required.uint32(5, { flags: "mmap.prot" }),
  flags: required.uint32(6, { flags: "mmap.flags" }),
  status: required.uint32(7, { flags: "mmap.status" }),
  fd: required.sint64(8),
  madv: optional.uint64(9, { hex: true }),
  fdflags: optional.uint32(10, { hex: true }),
  /** Of a locked mapping: its pages are locked when they are touched (MLOCK_ONFAULT). */
  locked_on_fault: optional.bool(1000, { floe: true }),
  /** Of an anonymous mapping: what the process calls it (PR_SET_VMA_ANON_NAME). */
  anon_name: optional.string(1001, { floe: true }),
}));
export type VmaEntry = Infer<typeof vmaEntry>;
