/**
 * Image messages: rlimit_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const rlimitEntry = message("rlimit_entry", () => ({
  cur: required.uint64(1),
  max: required.uint64(2),
}));
export type RlimitEntry = Infer<typeof rlimitEntry>;
