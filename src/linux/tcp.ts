/**
 * Repair mode of TCP sockets: reading and setting what a connection consists of, with nothing sent to the other end.
 *
 * Source: uapi/linux/tcp.h.
 */
import { ERRNO } from "./errno.js";
import { KernelError } from "../errors.js";
import { MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, getsockopt, recvmsg, sendmsg, setsockopt, setsockoptInt } from "./sockets.js";

const IPPROTO_TCP = 6;
const tcp = (name: number) => ({ level: IPPROTO_TCP, name });
export const TCP_MAXSEG = tcp(2);
export const TCP_INFO = tcp(11);
export const TCP_REPAIR = tcp(19);
export const TCP_REPAIR_QUEUE = tcp(20);
export const TCP_QUEUE_SEQ = tcp(21);
const TCP_REPAIR_OPTIONS = tcp(22);
export const TCP_TIMESTAMP = tcp(24);
export const TCP_REPAIR_WINDOW = tcp(29);
export const TCP_ULP = tcp(31);
export const TCP_AO_INFO = tcp(40);

export const TCP_INFO_BYTES = 104;
export const REPAIR_WINDOW_BYTES = 20;

/** TCP_RECV_QUEUE, TCP_SEND_QUEUE. */
export const TCP_QUEUE = { none: 0, receive: 1, send: 2 } as const;
export type TcpQueue = (typeof TCP_QUEUE)[keyof typeof TCP_QUEUE];

/** Options that both ends agreed on, TCPI_OPT_…. */
export const TCP_AGREED = { timestamps: 1, sack: 2, windowScale: 4 } as const;

/** Numbers of options in segments. */
const OPTION = { mss: 2, windowScale: 3, sack: 4, timestamps: 8 } as const;

/** Values of TCP_REPAIR: on; off with a probe of the other end's window; off in silence (since 4.19). */
export const TCP_REPAIR_MODE = { on: 1, off: 0, "off-silently": -1 } as const;

/** setsockopt(TCP_REPAIR). */
export function setRepair(fd: number, mode: keyof typeof TCP_REPAIR_MODE): void {
  setsockoptInt(fd, TCP_REPAIR, TCP_REPAIR_MODE[mode]);
}

/** What getsockopt(TCP_INFO) says of a connection. */
export interface TcpInfo {
  readonly state: number;
  readonly agreed: number;
  readonly sendScale: number;
  readonly receiveScale: number;
  /** Of a listening socket: connections that wait, and their limit. */
  readonly backlog: { readonly now: number; readonly limit: number };
}

export function tcpInfo(fd: number): TcpInfo {
  return decodeTcpInfo(getsockopt(fd, TCP_INFO, TCP_INFO_BYTES));
}

/** What the value of TCP_INFO says. */
export function decodeTcpInfo(info: Buffer): TcpInfo {
  const scales = info.readUInt8(6);
  return {
    state: info.readUInt8(0),
    agreed: info.readUInt8(5),
    sendScale: scales & 0xf,
    receiveScale: scales >> 4,
    backlog: { now: info.readUInt32LE(24), limit: info.readUInt32LE(28) },
  };
}

/** TCP_ULP is the protocol that the kernel runs above a connection, as in "tls"; empty: none. */
export const ULP_NAME_BYTES = 16;
/** TCP_AO_INFO is known only where segments are signed with keys of TCP-AO (since 6.7). */
export const AO_INFO_BYTES = 64;

/** TCP_QUEUE_SEQ — the next number of a queue: what is received next, what is written next. */
export function setQueueSequence(fd: number, queue: TcpQueue, sequence: number): void {
  setsockoptInt(fd, TCP_REPAIR_QUEUE, queue);
  setsockoptInt(fd, TCP_QUEUE_SEQ, sequence | 0);
}

/**
 * Everything in a queue, without taking it out. The queue is chosen for as long as it takes: as long as the one to send is, the kernel
 * takes for sent whatever an acknowledgement or a timer makes it send, beyond the window of the other end, and sends nothing.
 */
export function readQueue(fd: number, queue: TcpQueue, sizeBytes: number): Buffer {
  if (sizeBytes === 0) return Buffer.alloc(0);
  setsockoptInt(fd, TCP_REPAIR_QUEUE, queue);
  try {
    return recvmsg(fd, { maxBytes: sizeBytes, flags: MSG_PEEK | MSG_DONTWAIT })?.data ?? Buffer.alloc(0);
  } finally {
    setsockoptInt(fd, TCP_REPAIR_QUEUE, TCP_QUEUE.none);
  }
}

const CHUNK_BYTES = 32 << 10;

/** Puts data into a queue of a socket in repair mode, or sends it when `queue` is undefined. Returns what did not fit. */
export function writeQueue(fd: number, queue: TcpQueue | undefined, data: Buffer): Buffer {
  if (queue !== undefined) setsockoptInt(fd, TCP_REPAIR_QUEUE, queue);
  let at = 0;
  while (at < data.length) {
    try {
      at += sendmsg(fd, data.subarray(at, at + CHUNK_BYTES), { flags: MSG_DONTWAIT | MSG_NOSIGNAL });
    } catch (error) {
      if (error instanceof KernelError && error.errno === ERRNO.EAGAIN) break;
      throw error;
    }
  }
  return data.subarray(at);
}

export const setTimestamp = (fd: number, value: number): void => setsockoptInt(fd, TCP_TIMESTAMP, value | 0);

/** What both ends agreed on when they met. */
export function setAgreed(fd: number, how: { agreed: number; sendScale: number; receiveScale: number; segmentLimit: number }): void {
  const options: [number, number][] = [[OPTION.mss, how.segmentLimit]];
  if (how.agreed & TCP_AGREED.sack) options.push([OPTION.sack, 0]);
  if (how.agreed & TCP_AGREED.windowScale) options.push([OPTION.windowScale, how.sendScale | (how.receiveScale << 16)]);
  if (how.agreed & TCP_AGREED.timestamps) options.push([OPTION.timestamps, 0]);
  const bytes = Buffer.alloc(options.length * 8);
  options.forEach(([code, value], i) => {
    bytes.writeUInt32LE(code, i * 8);
    bytes.writeUInt32LE(value, i * 8 + 4);
  });
  setsockopt(fd, TCP_REPAIR_OPTIONS, bytes);
}

/** struct tcp_repair_window. */
export interface TcpWindow {
  readonly snd_wl1: number;
  readonly snd_wnd: number;
  readonly max_window: number;
  readonly rcv_wnd: number;
  readonly rcv_wup: number;
}

const WINDOW_FIELDS = ["snd_wl1", "snd_wnd", "max_window", "rcv_wnd", "rcv_wup"] as const;

/** What the value of TCP_REPAIR_WINDOW says. */
export function decodeWindow(bytes: Buffer): TcpWindow {
  const [snd_wl1 = 0, snd_wnd = 0, max_window = 0, rcv_wnd = 0, rcv_wup = 0] = WINDOW_FIELDS.map((_, i) => bytes.readUInt32LE(i * 4));
  return { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup };
}

export function setWindow(fd: number, window: TcpWindow): void {
  const bytes = Buffer.alloc(REPAIR_WINDOW_BYTES);
  WINDOW_FIELDS.forEach((field, i) => bytes.writeUInt32LE(window[field] >>> 0, i * 4));
  setsockopt(fd, TCP_REPAIR_WINDOW, bytes);
}
