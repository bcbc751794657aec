/**
 * Image messages: ip_opts_raw_entry, ip_opts_entry, inet_sk_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";
import { floeOption, floeOptionBytes, skOptsEntry, skShutdown } from "./options.schema.js";
import { tcpOptsEntry } from "./tcp.schema.js";

export const ipOptsRawEntry = message("ip_opts_raw_entry", () => ({
  hdrincl: optional.bool(1),
  nodefrag: optional.bool(2),
  checksum: optional.bool(3),
  icmpv_filter: repeated.uint32(4),
  /** IPV6_CHECKSUM. */
  checksum_at: optional.uint32(1000, { floe: true }),
}));
export type IpOptsRawEntry = Infer<typeof ipOptsRawEntry>;

export const ipOptsEntry = message("ip_opts_entry", () => ({
  freebind: optional.bool(1),
  raw: optional.message(4, () => ipOptsRawEntry),
  pktinfo: optional.bool(5),
  tos: optional.uint32(6),
  ttl: optional.uint32(7),
}));
export type IpOptsEntry = Infer<typeof ipOptsEntry>;

/** A multicast group that a socket is in. */
export const floeMembership = message("floe_membership", () => ({
  ifindex: required.uint32(1),
  device: required.string(2),
  group: required.bytes(3),
  /** MCAST_EXCLUDE 0: from all but these sources; MCAST_INCLUDE 1: from these only. */
  mode: required.uint32(4),
  sources: repeated.bytes(5),
}));
export type Membership = Infer<typeof floeMembership>;

/** A control message, cmsg(3). */
export const floeControl = message("floe_control", () => ({
  level: required.uint32(1),
  type: required.uint32(2),
  data: required.bytes(3),
}));

/** Part of a datagram that waits for the rest of it (UDP_CORK, MSG_MORE). */
export const floeCork = message("floe_cork", () => ({
  data: required.bytes(1),
  /** Where it goes and where it comes from, as in struct sockaddr. */
  to: required.bytes(2),
  from: optional.bytes(3),
  /** What the datagram was given on its way that may differ from the options of the socket. */
  control: repeated.message(4, () => floeControl),
}));
export type Cork = Infer<typeof floeCork>;

/** A policy of IPsec of a socket, xfrm_userpolicy_info in uapi/linux/xfrm.h. */
export const floeXfrmPolicy = message("floe_xfrm_policy", () => ({
  /** XFRM_POLICY_IN 0, XFRM_POLICY_OUT 1. */
  direction: required.uint32(1),
  action: required.uint32(2),
  flags: required.uint32(3),
  priority: required.uint32(4),
  /** As in struct xfrm_selector and xfrm_lifetime_cfg. */
  selector: required.bytes(5),
  limits: required.bytes(6),
}));
export type XfrmPolicy = Infer<typeof floeXfrmPolicy>;

/** A message of ICMP or ICMPv6 in the error queue of a socket (IP_RECVERR). */
export const floeSkError = message("floe_sk_error", () => ({
  type: required.uint32(1),
  code: required.uint32(2),
  info: required.uint32(3),
  /** Address of who sent it. */
  from: required.bytes(4),
  /** Where the datagram went that it is about, and its data. */
  to: required.bytes(5),
  port: required.uint32(6),
  data: required.bytes(7),
}));
export type FloeSkError = Infer<typeof floeSkError>;

export const inetSkEntry = message("inet_sk_entry", () => ({
  id: required.uint32(1),
  ino: required.uint32(2),
  family: required.uint32(3, { dict: "sk.family" }),
  type: required.uint32(4, { dict: "sk.type" }),
  proto: required.uint32(5, { dict: "sk.proto" }),
  state: required.uint32(6, { dict: "sk.state" }),
  src_port: required.uint32(7),
  dst_port: required.uint32(8),
  flags: required.uint32(9, { hex: true }),
  backlog: required.uint32(10),
  src_addr: repeated.uint32(11, { ipadd: true }),
  dst_addr: repeated.uint32(12, { ipadd: true }),
  fown: required.message(13, () => fownEntry),
  opts: required.message(14, () => skOptsEntry),
  v6only: optional.bool(15),
  ip_opts: optional.message(16, () => ipOptsEntry),
  ifname: optional.string(17),
  ns_id: optional.uint32(18),
  shutdown: optional.enum(19, () => skShutdown),
  tcp_opts: optional.message(20, () => tcpOptsEntry),
  /** Options without a field above. */
  more: repeated.message(1000, () => floeOption, { floe: true }),
  flow_info: optional.uint32(1001, { floe: true }),
  scope_id: optional.uint32(1002, { floe: true }),
  /** The connection was broken off, and the program has not been told yet (ECONNRESET). */
  broken_off: optional.bool(1003, { floe: true }),
  more_bytes: repeated.message(1004, () => floeOptionBytes, { floe: true }),
  memberships: repeated.message(1005, () => floeMembership, { floe: true }),
  /** Options that take effect only on a connection that is there, or on a socket that listens. */
  late: repeated.message(1006, () => floeOption, { floe: true }),
  cork: optional.message(1007, () => floeCork, { floe: true }),
  /** Its place among the sockets that share its port (SO_REUSEPORT), and the program that chooses one, as so_filter is written. */
  reuseport_index: optional.uint32(1008, { floe: true }),
  reuseport_filter: repeated.fixed64(1009, { floe: true }),
  /** IP_MULTICAST_IF by a device's number. */
  multicast_device: optional.string(1010, { floe: true }),
  policies: repeated.message(1011, () => floeXfrmPolicy, { floe: true }),
  /** An error of a datagram socket that its program has not been told of (SO_ERROR). */
  so_error: optional.uint32(1012, { floe: true }),
  errors: repeated.message(1013, () => floeSkError, { floe: true }),
}));
export type InetSkEntry = Infer<typeof inetSkEntry>;
