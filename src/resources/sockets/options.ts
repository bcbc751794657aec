/**
 * Options of the socket level (SOL_SOCKET) that every family has.
 *
 * Read from   getsockopt(2)
 * Made with   setsockopt(2); buffer sizes past the system's limits by SO_SNDBUFFORCE, SO_RCVBUFFORCE
 */
import { closeSync, fstatSync, statSync } from "node:fs";
import { SOCK_FILTER_BYTES } from "../../linux/seccomp.js";
import {
  SO,
  attachFilter,
  bindToDevice,
  boundDevice,
  getFilter,
  getLinger,
  getTimeout,
  setLinger,
  setTimeout,
  socketNetns,
} from "../../linux/socket-options.js";
import { SOL_SOCKET, getsockoptInt, setsockoptInt } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import type { SkOptsEntry } from "./options.schema.js";

/** SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK: the kernel must not change the size by itself. */
const SNDBUF_LOCK = 1;
const RCVBUF_LOCK = 2;

const int = (fd: Fd, name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });
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

/** All options of the socket behind `fd`. */
export function readOptions(fd: Fd): SkOptsEntry {
  const send = getTimeout(fd, SO.SNDTIMEO);
  const receive = getTimeout(fd, SO.RCVTIMEO);
  const entry: SkOptsEntry = {
    so_sndbuf: int(fd, SO.SNDBUF),
    so_rcvbuf: int(fd, SO.RCVBUF),
    so_snd_tmo_sec: send.sec,
    so_snd_tmo_usec: send.usec,
    so_rcv_tmo_sec: receive.sec,
    so_rcv_tmo_usec: receive.usec,
    so_priority: int(fd, SO.PRIORITY),
    so_rcvlowat: int(fd, SO.RCVLOWAT),
    so_filter: readFilter(fd),
    so_oobinline: int(fd, SO.OOBINLINE),
    so_buf_lock: int(fd, SO.BUF_LOCK),
  };
  // Families that do not know an option do not answer.
  for (const [field, name] of SWITCHES) entry[field] = isOn(fd, name);
  for (const [field, name] of OWN_SWITCHES) if (isOn(fd, name)) entry[field] = true;
  const mark = int(fd, SO.MARK);
  if (mark !== 0) entry.so_mark = mark >>> 0;
  const device = boundDevice(fd);
  if (device !== undefined) entry.so_bound_dev = device;
  const linger = getLinger(fd);
  if (linger !== undefined) entry.so_linger = linger;
  const offset = known(fd, SO.PEEK_OFF);
  if (offset !== undefined && offset >= 0) entry.peek_off = offset;
  return entry;
}

/** The value; undefined where the family or an older kernel does not know the option. */
function known(fd: Fd, name: number): number | undefined {
  try {
    return int(fd, name);
  } catch {
    return undefined;
  }
}

const isOn = (fd: Fd, name: number) => (known(fd, name) ?? 0) !== 0;

/** The program of a classic packet filter, an instruction a word: code, jt, jf, k from the top down. */
function readFilter(fd: Fd): bigint[] {
  const bytes = getFilter(fd) ?? Buffer.alloc(0);
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
  set(fd, SO.BUF_LOCK, (entry.so_buf_lock ?? 0) & (SNDBUF_LOCK | RCVBUF_LOCK));
  setTimeout(fd, SO.SNDTIMEO, { sec: entry.so_snd_tmo_sec, usec: entry.so_snd_tmo_usec });
  setTimeout(fd, SO.RCVTIMEO, { sec: entry.so_rcv_tmo_sec, usec: entry.so_rcv_tmo_usec });
  for (const [field, name] of [...SWITCHES, ...OWN_SWITCHES]) {
    const value = entry[field];
    if (value !== undefined && (value || isOn(fd, name))) set(fd, name, Number(value));
  }
  if (entry.so_priority !== undefined && entry.so_priority !== int(fd, SO.PRIORITY)) set(fd, SO.PRIORITY, entry.so_priority);
  if (entry.so_rcvlowat !== undefined && entry.so_rcvlowat !== int(fd, SO.RCVLOWAT)) set(fd, SO.RCVLOWAT, entry.so_rcvlowat);
  if (entry.so_mark !== undefined) set(fd, SO.MARK, entry.so_mark | 0);
  if (entry.so_oobinline !== undefined) set(fd, SO.OOBINLINE, entry.so_oobinline);
  if (entry.so_linger !== undefined) setLinger(fd, entry.so_linger);
  if (entry.so_bound_dev !== undefined && boundDevice(fd) !== entry.so_bound_dev) bindToDevice(fd, entry.so_bound_dev);
  if (entry.peek_off !== undefined) set(fd, SO.PEEK_OFF, entry.peek_off);
  setFilter(fd, entry.so_filter);
}

function setFilter(fd: Fd, words: readonly bigint[]): void {
  if (words.length === 0) return;
  const bytes = Buffer.alloc(words.length * SOCK_FILTER_BYTES);
  words.forEach((word, i) => {
    const at = i * SOCK_FILTER_BYTES;
    const head = Number(word >> 32n);
    bytes.writeUInt16LE(head >>> 16, at);
    bytes.writeUInt8((head >>> 8) & 0xff, at + 2);
    bytes.writeUInt8(head & 0xff, at + 3);
    bytes.writeUInt32LE(Number(word & 0xffff_ffffn), at + 4);
  });
  attachFilter(fd, bytes);
}

/** What of the options cannot be carried. */
export function unreadableOption(fd: Fd): string | undefined {
  return getFilter(fd) === undefined ? "it has an eBPF filter, whose program cannot be read" : undefined;
}

/** Whether a socket is of another network namespace than Floe, and so than the process that holds it. */
export function isOfOtherNetns(fd: Fd): boolean {
  const netns = socketNetns(fd);
  if (netns === undefined) return false;
  try {
    return fstatSync(netns, { bigint: true }).ino !== statSync("/proc/self/ns/net", { bigint: true }).ino;
  } finally {
    closeSync(netns);
  }
}
