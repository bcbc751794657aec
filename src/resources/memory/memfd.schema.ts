/**
 * Image messages: memfd_file_entry, memfd_inode_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const memfdFileEntry = message("memfd_file_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { flags: "rfile.flags" }),
  pos: required.uint64(3),
  fown: required.message(4, () => fownEntry),
  inode_id: required.uint32(5),
}));
export type MemfdFileEntry = Infer<typeof memfdFileEntry>;

export const memfdInodeEntry = message("memfd_inode_entry", () => ({
  name: required.string(1),
  uid: required.uint32(2),
  gid: required.uint32(3),
  size: required.uint64(4),
  shmid: required.uint32(5),
  seals: required.uint32(6, { flags: "seals.flags" }),
  inode_id: required.uint64(7),
  hugetlb_flag: optional.uint32(8),
  mode: optional.uint32(9),
}));
export type MemfdInodeEntry = Infer<typeof memfdInodeEntry>;
