/**
 * Image messages: fown_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const fownEntry = message("fown_entry", () => ({
  uid: required.uint32(1),
  euid: required.uint32(2),
  signum: required.uint32(3),
  pid_type: required.uint32(4),
  pid: required.uint32(5),
}));
export type FownEntry = Infer<typeof fownEntry>;
