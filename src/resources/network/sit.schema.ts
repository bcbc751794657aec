/**
 * Image messages: sit_entry.
 */
import { type Infer, message, optional, repeated } from "../../images/codec/schema.js";

export const sitEntry = message("sit_entry", () => ({
  link: optional.uint32(1),
  local: repeated.uint32(2, { ipadd: true }),
  remote: repeated.uint32(3, { ipadd: true }),
  ttl: optional.uint32(4),
  tos: optional.uint32(5),
  pmtudisc: optional.bool(6),
  proto: optional.uint32(7),
  flags: optional.uint32(8),
  encap_type: optional.uint32(9),
  encap_flags: optional.uint32(10),
  encap_sport: optional.uint32(11),
  encap_dport: optional.uint32(12),
  rd_prefixlen: optional.uint32(13),
  rd_prefix: repeated.uint32(14, { ipadd: true }),
  relay_prefixlen: optional.uint32(15),
  relay_prefix: repeated.uint32(16, { ipadd: true }),
}));
export type SitEntry = Infer<typeof sitEntry>;
