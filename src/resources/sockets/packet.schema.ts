/**
 * Image messages: packet_mclist, packet_ring, packet_sock_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";
import { skOptsEntry } from "./options.schema.js";

export const packetMclist = message("packet_mclist", () => ({
  index: required.uint32(1),
  type: required.uint32(2),
  addr: required.bytes(3),
}));
export type PacketMclist = Infer<typeof packetMclist>;

export const packetRing = message("packet_ring", () => ({
  block_size: required.uint32(1),
  block_nr: required.uint32(2),
  frame_size: required.uint32(3),
  frame_nr: required.uint32(4),
  retire_tmo: required.uint32(5),
  sizeof_priv: required.uint32(6),
  features: required.uint32(7),
}));
export type PacketRing = Infer<typeof packetRing>;

export const packetSockEntry = message("packet_sock_entry", () => ({
  id: required.uint32(1),
  type: required.uint32(2),
  protocol: required.uint32(3),
  flags: required.uint32(4, { hex: true }),
  ifindex: required.uint32(5),
  fown: required.message(6, () => fownEntry),
  opts: required.message(7, () => skOptsEntry),
  version: required.uint32(8),
  reserve: required.uint32(9),
  aux_data: required.bool(10),
  orig_dev: required.bool(11),
  vnet_hdr: required.bool(12),
  loss: required.bool(13),
  timestamp: required.uint32(14),
  copy_thresh: required.uint32(15),
  mclist: repeated.message(16, () => packetMclist),
  fanout: optional.uint32(17, { default: 4294967295 }),
  rx_ring: optional.message(18, () => packetRing),
  tx_ring: optional.message(19, () => packetRing),
  ns_id: optional.uint32(20),
  /** Name of the device of `ifindex`. */
  device: optional.string(1000, { floe: true }),
  /** Length of the headers that `vnet_hdr` is about, where it is not 10. */
  vnet_hdr_sz: optional.uint32(1001, { floe: true }),
  qdisc_bypass: optional.bool(1002, { floe: true }),
  ignore_outgoing: optional.bool(1003, { floe: true }),
  tx_has_off: optional.bool(1004, { floe: true }),
}));
export type PacketSockEntry = Infer<typeof packetSockEntry>;
