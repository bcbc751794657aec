/**
 * Image messages: pidfd_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const pidfdEntry = message("pidfd_entry", () => ({
  id: required.uint32(1),
  ino: required.uint32(2),
  flags: required.uint32(3),
  nspid: required.int32(4),
  fown: required.message(5, () => fownEntry),
}));
export type PidfdEntry = Infer<typeof pidfdEntry>;
