/**
 * Image messages: ip_opts_raw_entry, ip_opts_entry, inet_sk_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";
import { skOptsEntry, skShutdown } from "./options.schema.js";
import { tcpOptsEntry } from "./tcp.schema.js";

export const ipOptsRawEntry = message("ip_opts_raw_entry", {
  hdrincl: optional.bool(1),
  nodefrag: optional.bool(2),
  checksum: optional.bool(3),
  icmpv_filter: repeated.uint32(4),
});
export type IpOptsRawEntry = Infer<typeof ipOptsRawEntry>;

export const ipOptsEntry = message("ip_opts_entry", {
  freebind: optional.bool(1),
  raw: optional.message(4, () => ipOptsRawEntry),
  pktinfo: optional.bool(5),
  tos: optional.uint32(6),
  ttl: optional.uint32(7),
});
export type IpOptsEntry = Infer<typeof ipOptsEntry>;

/** An option with an integer value, by its numbers in setsockopt(2). */
export const floeInetOption = message("floe_inet_option", {
  level: required.uint32(1),
  name: required.uint32(2),
  value: required.int32(3),
});
export type InetOption = Infer<typeof floeInetOption>;

export const inetSkEntry = message("inet_sk_entry", {
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
  more: repeated.message(1000, () => floeInetOption, { floe: true }),
  flow_info: optional.uint32(1001, { floe: true }),
  scope_id: optional.uint32(1002, { floe: true }),
  /** The connection was broken off, and the program has not been told yet (ECONNRESET). */
  broken_off: optional.bool(1003, { floe: true }),
});
export type InetSkEntry = Infer<typeof inetSkEntry>;
