/**
 * Image messages: sk_opts_entry, sk_shutdown.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../../images/codec/schema.js";

export const skShutdown = enumeration("sk_shutdown", {
  NONE: 0,
  READ: 1,
  WRITE: 2,
  BOTH: 3,
});

/** An option with an integer value, by its numbers in setsockopt(2). */
export const floeOption = message("floe_option", () => ({
  level: required.uint32(1),
  name: required.uint32(2),
  value: required.int32(3),
}));
export type FloeOption = Infer<typeof floeOption>;

/** An option with a value of another type. */
export const floeOptionBytes = message("floe_option_bytes", () => ({
  level: required.uint32(1),
  name: required.uint32(2),
  value: required.bytes(3),
}));
export type FloeOptionBytes = Infer<typeof floeOptionBytes>;

export const skOptsEntry = message("sk_opts_entry", () => ({
  so_sndbuf: required.uint32(1),
  so_rcvbuf: required.uint32(2),
  so_snd_tmo_sec: required.uint64(3),
  so_snd_tmo_usec: required.uint64(4),
  so_rcv_tmo_sec: required.uint64(5),
  so_rcv_tmo_usec: required.uint64(6),
  reuseaddr: optional.bool(7),
  so_priority: optional.uint32(8),
  so_rcvlowat: optional.uint32(9),
  so_mark: optional.uint32(10),
  so_passcred: optional.bool(11),
  so_passsec: optional.bool(12),
  so_dontroute: optional.bool(13),
  so_no_check: optional.bool(14),
  so_bound_dev: optional.string(15),
  so_filter: repeated.fixed64(16),
  so_reuseport: optional.bool(17),
  so_broadcast: optional.bool(18),
  so_keepalive: optional.bool(19),
  tcp_keepcnt: optional.uint32(20),
  tcp_keepidle: optional.uint32(21),
  tcp_keepintvl: optional.uint32(22),
  so_oobinline: optional.uint32(23),
  so_linger: optional.uint32(24),
  so_buf_lock: optional.uint32(25),
  timestamp: optional.bool(1000, { floe: true }),
  timestampns: optional.bool(1001, { floe: true }),
  passpidfd: optional.bool(1002, { floe: true }),
  /** SO_PEEK_OFF, where it is not -1. */
  peek_off: optional.uint32(1003, { floe: true }),
  /** Options without a field above. */
  more: repeated.message(1004, () => floeOption, { floe: true }),
  more_bytes: repeated.message(1005, () => floeOptionBytes, { floe: true }),
  /** SO_LOCK_FILTER. */
  lock_filter: optional.bool(1006, { floe: true }),
}));
export type SkOptsEntry = Infer<typeof skOptsEntry>;
