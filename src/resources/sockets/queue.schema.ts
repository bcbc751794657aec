/**
 * Image messages: scm_entry, sk_packet_entry.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";

export const scmEntry = message("scm_entry", {
  type: required.uint32(1),
  rights: repeated.uint32(2),
});
export type ScmEntry = Infer<typeof scmEntry>;

export const skPacketEntry = message("sk_packet_entry", {
  id_for: required.uint32(1),
  length: required.uint32(2),
  scm: repeated.message(4, () => scmEntry),
});
export type SkPacketEntry = Infer<typeof skPacketEntry>;
