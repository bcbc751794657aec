/**
 * Image messages: netlink_sk_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";
import { skOptsEntry } from "./options.schema.js";

export const netlinkSkEntry = message("netlink_sk_entry", () => ({
  id: required.uint32(1),
  ino: required.uint32(2),
  protocol: required.uint32(3),
  state: required.uint32(4),
  flags: required.uint32(6, { hex: true }),
  portid: required.uint32(7),
  groups: repeated.uint32(8),
  dst_portid: required.uint32(9),
  dst_group: required.uint32(10),
  fown: required.message(11, () => fownEntry),
  opts: required.message(12, () => skOptsEntry),
  ns_id: optional.uint32(13),
  /** SOCK_DGRAM instead of SOCK_RAW. */
  is_dgram: optional.bool(1000, { floe: true }),
  /** Options of the netlink level that are on. */
  switches: repeated.uint32(1001, { floe: true }),
}));
export type NetlinkSkEntry = Infer<typeof netlinkSkEntry>;
