/**
 * Image messages: pidns_entry.
 */
import { type Infer, message, optional } from "../../images/codec/schema.js";

export const pidnsEntry = message("pidns_entry", () => ({
  ext_key: optional.string(1),
}));
export type PidnsEntry = Infer<typeof pidnsEntry>;
