/**
 * Image messages: tcp_opts_entry, tcp_stream_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const tcpOptsEntry = message("tcp_opts_entry", () => ({
  cork: optional.bool(1),
  nodelay: optional.bool(2),
  keepcnt: optional.uint32(3),
  keepidle: optional.uint32(4),
  keepintvl: optional.uint32(5),
  /** Name of the congestion control. */
  congestion: optional.string(1000, { floe: true }),
}));
export type TcpOptsEntry = Infer<typeof tcpOptsEntry>;

export const tcpStreamEntry = message("tcp_stream_entry", () => ({
  inq_len: required.uint32(1),
  inq_seq: required.uint32(2),
  outq_len: required.uint32(3),
  outq_seq: required.uint32(4),
  opt_mask: required.uint32(5, { hex: true }),
  snd_wscale: required.uint32(6),
  mss_clamp: required.uint32(7),
  rcv_wscale: optional.uint32(8),
  timestamp: optional.uint32(9),
  cork: optional.bool(10),
  nodelay: optional.bool(11),
  unsq_len: optional.uint32(12),
  snd_wl1: optional.uint32(13),
  snd_wnd: optional.uint32(14),
  max_window: optional.uint32(15),
  rcv_wnd: optional.uint32(16),
  rcv_wup: optional.uint32(17),
}));
export type TcpStreamEntry = Infer<typeof tcpStreamEntry>;
