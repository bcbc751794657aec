/**
 * Image messages: pstree_entry.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";

export const pstreeEntry = message("pstree_entry", () => ({
  pid: required.uint32(1),
  ppid: required.uint32(2),
  pgid: required.uint32(3),
  sid: required.uint32(4),
  threads: repeated.uint32(5),
}));
export type PstreeEntry = Infer<typeof pstreeEntry>;
