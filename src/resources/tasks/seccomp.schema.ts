/**
 * Image messages: seccomp_filter, seccomp_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const seccompFilter = message("seccomp_filter", () => ({
  filter: required.bytes(1),
  prev: optional.uint32(2),
  flags: optional.uint32(3),
}));
export type SeccompFilter = Infer<typeof seccompFilter>;

export const seccompEntry = message("seccomp_entry", () => ({
  seccomp_filters: repeated.message(1, () => seccompFilter),
}));
export type SeccompEntry = Infer<typeof seccompEntry>;
