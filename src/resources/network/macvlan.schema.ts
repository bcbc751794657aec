/**
 * Image messages: macvlan_link_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const macvlanLinkEntry = message("macvlan_link_entry", () => ({
  mode: required.uint32(1),
  flags: optional.uint32(2),
}));
export type MacvlanLinkEntry = Infer<typeof macvlanLinkEntry>;
