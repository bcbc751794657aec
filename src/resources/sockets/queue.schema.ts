/**
 * Image messages: scm_entry, sk_packet_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const scmEntry = message("scm_entry", () => ({
  type: required.uint32(1),
  rights: repeated.uint32(2),
}));
export type ScmEntry = Infer<typeof scmEntry>;

/** SCM_CREDENTIALS of a message. */
export const floeSkCredentials = message("floe_sk_credentials", () => ({
  pid: required.uint32(1),
  uid: required.uint32(2),
  gid: required.uint32(3),
}));

/** How a datagram came in, as its program would be told (IP_PKTINFO, IP_TTL, IP_TOS and those of IPv6). */
export const floeSkArrival = message("floe_sk_arrival", () => ({
  /** The address that it was sent to. */
  to: required.bytes(1),
  /** Name of the network device. */
  device: required.string(2),
  hops: optional.uint32(3),
  traffic_class: optional.uint32(4),
}));
export type FloeSkArrival = Infer<typeof floeSkArrival>;

export const skPacketEntry = message("sk_packet_entry", () => ({
  id_for: required.uint32(1),
  length: required.uint32(2),
  scm: repeated.message(4, () => scmEntry),
  /** Address of the sender, as in struct sockaddr. */
  from: optional.bytes(1000, { floe: true }),
  credentials: optional.message(1001, () => floeSkCredentials, { floe: true }),
  /** Sent with MSG_OOB. */
  urgent: optional.bool(1002, { floe: true }),
  /** Of a datagram of UDP. */
  arrival: optional.message(1003, () => floeSkArrival, { floe: true }),
}));
export type SkPacketEntry = Infer<typeof skPacketEntry>;
