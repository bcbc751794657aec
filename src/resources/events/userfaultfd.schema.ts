/**
 * Image messages: floe_userfaultfd_entry, floe_memory_range. CRIU has no such kind of file.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const floeMemoryRange = message("floe_memory_range", () => ({
  start: required.uint64(1, { hex: true }),
  bytes: required.uint64(2),
  /** UFFDIO_REGISTER_MODE_…, of registered ranges. */
  modes: required.uint32(3),
}));
export type FloeMemoryRange = Infer<typeof floeMemoryRange>;

export const floeUserfaultfdEntry = message("floe_userfaultfd_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { hex: true }),
  fown: required.message(3, () => fownEntry),
  /** As in fdinfo, with the bit that says that UFFDIO_API has been called. */
  features: required.uint64(4, { hex: true }),
  /** A process whose memory it is for. */
  pid: required.uint32(5),
  registered: repeated.message(6, () => floeMemoryRange),
  /** Pages with nothing in them that are there all the same, and raise no fault. */
  zero: repeated.message(7, () => floeMemoryRange),
  /** Write-protected pages. */
  protected: repeated.message(8, () => floeMemoryRange),
  /** Pages of shared memory that are mapped, and raise no fault. */
  mapped: repeated.message(9, () => floeMemoryRange),
}));
export type FloeUserfaultfdEntry = Infer<typeof floeUserfaultfdEntry>;
