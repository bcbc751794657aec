/**
 * Image messages: sa_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const saEntry = message("sa_entry", () => ({
  sigaction: required.uint64(1, { hex: true }),
  flags: required.uint64(2, { hex: true }),
  restorer: required.uint64(3, { hex: true }),
  mask: required.uint64(4, { hex: true }),
  compat_sigaction: optional.bool(5),
  mask_extended: optional.uint64(6, { hex: true }),
}));
export type SaEntry = Infer<typeof saEntry>;
