/**
 * Image messages: utsns_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const utsnsEntry = message("utsns_entry", () => ({
  nodename: required.string(1),
  domainname: required.string(2),
}));
export type UtsnsEntry = Infer<typeof utsnsEntry>;
