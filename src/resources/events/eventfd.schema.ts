/**
 * Image messages: eventfd_file_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const eventfdFileEntry = message("eventfd_file_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2),
  fown: required.message(3, () => fownEntry),
  counter: required.uint64(4),
  /** Made with EFD_SEMAPHORE. */
  semaphore: optional.bool(1000, { floe: true }),
}));
export type EventfdFileEntry = Infer<typeof eventfdFileEntry>;
