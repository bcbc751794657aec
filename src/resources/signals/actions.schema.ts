/**
 * Image messages: sa_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const saEntry = message("sa_entry", {
  sigaction: required.uint64(1),
  flags: required.uint64(2),
  restorer: required.uint64(3),
  mask: required.uint64(4),
  compat_sigaction: optional.bool(5),
  mask_extended: optional.uint64(6),
});
export type SaEntry = Infer<typeof saEntry>;
