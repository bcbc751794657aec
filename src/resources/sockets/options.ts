/**
 * Options of the socket level (SOL_SOCKET) that every family has.
 *
 * Read from   getsockopt(2)
 * Made with   setsockopt(2); buffer sizes past the system's limits by SO_SNDBUFFORCE, SO_RCVBUFFORCE
 */
import { closeSync, fstatSync } from "node:fs";
import { statSync } from "../../linux/named-files.js";
import { SOCK_FILTER_BYTES } from "../../linux/seccomp.js";
import {
  IFNAMSIZ,
  LINGER_BYTES,
  SO,
  TIMEVAL_BYTES,
  attachFilter,
  bindToDevice,
  boundDevice,
  getFilter,
  lingerOf,
  timeoutOf,
  setLinger,
  setTimeout,
  socketNetns,
} from "../../linux/socket-options.js";
import { SOL_SOCKET, getsockopt, getsockoptInt, setsockoptInt } from "../../linux/sockets.js";
import type { DumpSession, Fd } from "../part.js";
import { type Asked, type SocketKind, askedDirectly } from "./asked.js";
import type { SkOptsEntry } from "./options.schema.js";
import { changedBytes, changedNumbers, setBytes, setNumbers } from "./own-options.js";

/** SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK: the kernel must not change the size by itself. */
const SNDBUF_LOCK = 1;
const RCVBUF_LOCK = 2;

const int = (fd: Fd, name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });
const socket = (name: number) => ({ level: SOL_SOCKET, name });
const set = (fd: Fd, name: number, value: number) => setsockoptInt(fd, { level: SOL_SOCKET, name }, value);

/** Switches: field and option. */
const SWITCHES = [
  ["reuseaddr", SO.REUSEADDR],
  ["so_passcred", SO.PASSCRED],
  ["so_passsec", SO.PASSSEC],
  ["so_dontroute", SO.DONTROUTE],
  ["so_no_check", SO.NO_CHECK],
  ["so_reuseport", SO.REUSEPORT],
  ["so_broadcast", SO.BROADCAST],
  ["so_keepalive", SO.KEEPALIVE],
] as const;

/** Switches that CRIU's images have no field for: written only when they are on. */
const OWN_SWITCHES = [
  ["timestamp", SO.TIMESTAMP],
  ["timestampns", SO.TIMESTAMPNS],
  ["passpidfd", SO.PASSPIDFD],
] as const;

/**
 * RXQ_OVFL, WIFI_STATUS, NOFCS, SELECT_ERR_QUEUE, BUSY_POLL,
 * INCOMING_CPU, ZEROCOPY, TIMESTAMP_NEW, TIMESTAMPNS_NEW, PREFER_BUSY_POLL, RESERVE_MEM, TXREHASH, RCVMARK, RCVPRIORITY.
 */
const OWN_NUMBERS = [40, 41, 43, 45, 46, 49, 60, 63, 64, 69, 73, 74, 75, 82].map((name) => ({ level: SOL_SOCKET, name }));
/** TIMESTAMPING_OLD, which tells of TIMESTAMPING_NEW as well and so comes before it; MAX_PACING_RATE, TXTIME. */
const OWN_BYTES = [SO.TIMESTAMPING, 65, 47, 61].map((name) => ({ level: SOL_SOCKET, name }));

/** All options of the socket behind `fd`. */
export function readOptions(fd: Fd, kind = kindOf(fd), asked = askedDirectly(fd)): SkOptsEntry {
  const entry = asked.made("options", () => readValues(fd, kind, asked));
  return hasFilter(asked) ? { ...entry, so_filter: filterWords(getFilter(fd) ?? Buffer.alloc(0)) } : entry;
}

/** All of it but the filter. */
function readValues(fd: Fd, kind: SocketKind, asked: Asked): SkOptsEntry {
  const need = (name: number) => asked.int(socket(name)) ?? int(fd, name);
  const bytes = (name: number, length: number) => asked.bytes(socket(name), length) ?? getsockopt(fd, socket(name), length);
  const isOn = (name: number) => (asked.int(socket(name)) ?? 0) !== 0;
  const send = timeoutOf(bytes(SO.SNDTIMEO, TIMEVAL_BYTES));
  const receive = timeoutOf(bytes(SO.RCVTIMEO, TIMEVAL_BYTES));
  const entry: SkOptsEntry = {
    so_sndbuf: need(SO.SNDBUF),
    so_rcvbuf: need(SO.RCVBUF),
    so_snd_tmo_sec: send.sec,
    so_snd_tmo_usec: send.usec,
    so_rcv_tmo_sec: receive.sec,
    so_rcv_tmo_usec: receive.usec,
    so_priority: need(SO.PRIORITY),
    so_rcvlowat: need(SO.RCVLOWAT),
    so_filter: [],
    so_oobinline: need(SO.OOBINLINE),
    so_buf_lock: need(SO.BUF_LOCK),
    more: changedNumbers(asked, kind, OWN_NUMBERS),
    more_bytes: changedBytes(asked, kind, OWN_BYTES),
    ...(isOn(SO.LOCK_FILTER) ? { lock_filter: true } : {}),
  };
  // Families that do not know an option do not answer.
  for (const [field, name] of SWITCHES) entry[field] = isOn(name);
  for (const [field, name] of OWN_SWITCHES) if (isOn(name)) entry[field] = true;
  const mark = need(SO.MARK);
  if (mark !== 0) entry.so_mark = mark >>> 0;
  const device = bytes(SO.BINDTODEVICE, IFNAMSIZ);
  if (device.length > 0 && device[0] !== 0) entry.so_bound_dev = device.toString("latin1").replace(/\0.*$/s, "");
  const linger = lingerOf(bytes(SO.LINGER, LINGER_BYTES));
  if (linger !== undefined) entry.so_linger = linger;
  const offset = asked.int(socket(SO.PEEK_OFF));
  if (offset !== undefined && offset >= 0) entry.peek_off = offset;
  return entry;
}

const kindOf = (fd: Fd): SocketKind => ({ family: int(fd, SO.DOMAIN), type: int(fd, SO.TYPE), proto: int(fd, SO.PROTOCOL) });

const isOn = (fd: Fd, name: number) => (askedDirectly(fd).int(socket(name)) ?? 0) !== 0;

/** Without room for its program a filter tells how long that is: nothing to read where there is none. */
const hasFilter = (asked: Asked) => asked.length(socket(SO.ATTACH_FILTER)) !== 0;

/** The program of a classic packet filter, an instruction a word: code, jt, jf, k from the top down. */
export function filterWords(bytes: Buffer): bigint[] {
  return Array.from({ length: bytes.length / SOCK_FILTER_BYTES }, (_, i) => {
    const at = i * SOCK_FILTER_BYTES;
    const head = (bytes.readUInt16LE(at) << 16) | (bytes.readUInt8(at + 2) << 8) | bytes.readUInt8(at + 3);
    return (BigInt(head >>> 0) << 32n) | BigInt(bytes.readUInt32LE(at + 4));
  });
}

/** Room for whatever is put back into a queue: what the kernel counts for a message depends on how it was cut. */
const REFILL_BYTES = 1 << 29;

/** Lifts the limits of both buffers while a queue is refilled; {@link setOptions} puts them right. */
export function liftLimits(fd: Fd): void {
  set(fd, SO.SNDBUFFORCE, REFILL_BYTES);
  set(fd, SO.RCVBUFFORCE, REFILL_BYTES);
}

/** The kernel doubles what it is told. */
function setBuffer(fd: Fd, name: number, bytes: number): void {
  set(fd, name, Math.min(bytes >>> 1, 0x3fff_ffff));
}

/** Sets all options, after queues have been refilled and peers connected. */
export function setOptions(fd: Fd, entry: SkOptsEntry): void {
  if (int(fd, SO.SNDBUF) !== entry.so_sndbuf) setBuffer(fd, SO.SNDBUFFORCE, entry.so_sndbuf);
  if (int(fd, SO.RCVBUF) !== entry.so_rcvbuf) setBuffer(fd, SO.RCVBUFFORCE, entry.so_rcvbuf);
  const locks = (entry.so_buf_lock ?? 0) & (SNDBUF_LOCK | RCVBUF_LOCK);
  // Multipath TCP lets nobody set it.
  if (int(fd, SO.BUF_LOCK) !== locks) set(fd, SO.BUF_LOCK, locks);
  setTimeout(fd, SO.SNDTIMEO, { sec: entry.so_snd_tmo_sec, usec: entry.so_snd_tmo_usec });
  setTimeout(fd, SO.RCVTIMEO, { sec: entry.so_rcv_tmo_sec, usec: entry.so_rcv_tmo_usec });
  for (const [field, name] of [...SWITCHES, ...OWN_SWITCHES]) {
    const value = entry[field];
    if (value !== undefined && (value || isOn(fd, name))) set(fd, name, Number(value));
  }
  if (entry.so_priority !== undefined && entry.so_priority !== int(fd, SO.PRIORITY)) set(fd, SO.PRIORITY, entry.so_priority);
  if (entry.so_rcvlowat !== undefined && entry.so_rcvlowat !== int(fd, SO.RCVLOWAT)) set(fd, SO.RCVLOWAT, entry.so_rcvlowat);
  if (entry.so_mark !== undefined) set(fd, SO.MARK, entry.so_mark | 0);
  if (entry.so_oobinline !== undefined && entry.so_oobinline !== int(fd, SO.OOBINLINE)) set(fd, SO.OOBINLINE, entry.so_oobinline);
  if (entry.so_linger !== undefined) setLinger(fd, entry.so_linger);
  if (entry.so_bound_dev !== undefined && boundDevice(fd) !== entry.so_bound_dev) bindToDevice(fd, entry.so_bound_dev);
  if (entry.peek_off !== undefined) set(fd, SO.PEEK_OFF, entry.peek_off);
  setNumbers(fd, entry.more);
  setBytes(fd, entry.more_bytes);
  if (entry.so_filter.length > 0) attachFilter(fd, filterBytes(entry.so_filter));
  if (entry.lock_filter === true) set(fd, SO.LOCK_FILTER, 1);
}

export function filterBytes(words: readonly bigint[]): Buffer {
  const bytes = Buffer.alloc(words.length * SOCK_FILTER_BYTES);
  words.forEach((word, i) => {
    const at = i * SOCK_FILTER_BYTES;
    const head = Number(word >> 32n);
    bytes.writeUInt16LE(head >>> 16, at);
    bytes.writeUInt8((head >>> 8) & 0xff, at + 2);
    bytes.writeUInt8(head & 0xff, at + 3);
    bytes.writeUInt32LE(Number(word & 0xffff_ffffn), at + 4);
  });
  return bytes;
}

/** What of the options cannot be carried. */
export function unreadableOption(fd: Fd, asked?: Asked): string | undefined {
  return (asked === undefined || hasFilter(asked)) && getFilter(fd) === undefined
    ? "it has an eBPF filter, whose program cannot be read"
    : undefined;
}

/** Cookies of network namespaces, SO_NETNS_COOKIE (since 5.14): that of ours, once it is known. */
const NETNS_COOKIE_BYTES = 8;
const ourCookies = new WeakMap<DumpSession, Buffer>();

/** Whether a socket is of another network namespace than Floe, and so than the process that holds it. */
export function isOfOtherNetns(fd: Fd, by?: { readonly asked: Asked; readonly session: DumpSession }): boolean {
  const cookie = by?.asked.bytes(socket(SO.NETNS_COOKIE), NETNS_COOKIE_BYTES);
  const ours = by === undefined ? undefined : ourCookies.get(by.session);
  if (cookie !== undefined && ours?.equals(cookie) === true) return false;
  const netns = socketNetns(fd);
  if (netns === undefined) return false;
  try {
    const isOther = fstatSync(netns, { bigint: true }).ino !== statSync("/proc/self/ns/net", { bigint: true }).ino;
    if (!isOther && cookie !== undefined && by !== undefined) ourCookies.set(by.session, cookie);
    return isOther;
  } finally {
    closeSync(netns);
  }
}
