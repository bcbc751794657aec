/**
 * Image messages: net_device_entry, netns_id, netns_entry, nd_type.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../../images/codec/schema.js";
import { tunLinkEntry } from "../devices/tun.schema.js";
import { macvlanLinkEntry } from "./macvlan.schema.js";
import { sitEntry } from "./sit.schema.js";
import { sysctlEntry } from "./sysctl.schema.js";

export const ndType = enumeration("nd_type", {
  LOOPBACK: 1,
  VETH: 2,
  TUN: 3,
  EXTLINK: 4,
  VENET: 5,
  BRIDGE: 6,
  MACVLAN: 7,
  SIT: 8,
});

export const netDeviceEntry = message("net_device_entry", () => ({
  type: required.enum(1, () => ndType),
  ifindex: required.uint32(2),
  mtu: required.uint32(3),
  flags: required.uint32(4, { hex: true }),
  name: required.string(5),
  tun: optional.message(6, () => tunLinkEntry),
  address: optional.bytes(7),
  conf: repeated.int32(8),
  conf4: repeated.message(9, () => sysctlEntry),
  conf6: repeated.message(10, () => sysctlEntry),
  macvlan: optional.message(11, () => macvlanLinkEntry),
  peer_ifindex: optional.uint32(12),
  peer_nsid: optional.uint32(13),
  master: optional.uint32(14),
  sit: optional.message(15, () => sitEntry),
}));
export type NetDeviceEntry = Infer<typeof netDeviceEntry>;

export const netnsId = message("netns_id", () => ({
  target_ns_id: required.uint32(1),
  netnsid_value: required.int32(2),
}));
export type NetnsId = Infer<typeof netnsId>;

export const netnsEntry = message("netns_entry", () => ({
  def_conf: repeated.int32(1),
  all_conf: repeated.int32(2),
  def_conf4: repeated.message(3, () => sysctlEntry),
  all_conf4: repeated.message(4, () => sysctlEntry),
  def_conf6: repeated.message(5, () => sysctlEntry),
  all_conf6: repeated.message(6, () => sysctlEntry),
  nsids: repeated.message(7, () => netnsId),
  ext_key: optional.string(8),
  unix_conf: repeated.message(9, () => sysctlEntry),
  ipv4_sysctl: repeated.message(10, () => sysctlEntry),
}));
export type NetnsEntry = Infer<typeof netnsEntry>;
