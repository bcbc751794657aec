/**
 * Image messages: tunfile_entry, tun_link_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const tunfileEntry = message("tunfile_entry", () => ({
  id: required.uint32(1),
  netdev: optional.string(2),
  detached: optional.bool(3),
  ns_id: optional.uint32(4),
}));
export type TunfileEntry = Infer<typeof tunfileEntry>;

export const tunLinkEntry = message("tun_link_entry", () => ({
  flags: required.uint32(1, { hex: true }),
  owner: required.int32(2),
  group: required.int32(3),
  vnethdr: required.uint32(4),
  sndbuf: required.uint32(5),
}));
export type TunLinkEntry = Infer<typeof tunLinkEntry>;
