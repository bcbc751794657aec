/**
 * Image messages: signalfd_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const signalfdEntry = message("signalfd_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { hex: true }),
  fown: required.message(3, () => fownEntry),
  sigmask: required.uint64(4, { hex: true }),
}));
export type SignalfdEntry = Infer<typeof signalfdEntry>;
