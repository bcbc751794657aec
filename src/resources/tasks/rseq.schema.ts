/**
 * Image messages: rseq_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const rseqEntry = message("rseq_entry", () => ({
  rseq_abi_pointer: required.uint64(1),
  rseq_abi_size: required.uint32(2),
  signature: required.uint32(3),
  rseq_cs_pointer: optional.uint64(4),
}));
export type RseqEntry = Infer<typeof rseqEntry>;
