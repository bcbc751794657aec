/**
 * Names of options of sockets, socket(7), and ioctls on sockets.
 *
 * Source: uapi/asm-generic/socket.h, uapi/linux/un.h, uapi/linux/sockios.h.
 */
import { ERRNO, checked } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SOCK_FILTER_BYTES, encodeSockFprog } from "./seccomp.js";
import { SOL_SOCKET, getsockopt, setsockopt } from "./sockets.js";
import { SYS } from "./syscalls.js";

export const SO = {
  REUSEADDR: 2,
  TYPE: 3,
  ERROR: 4,
  DONTROUTE: 5,
  BROADCAST: 6,
  SNDBUF: 7,
  RCVBUF: 8,
  KEEPALIVE: 9,
  OOBINLINE: 10,
  NO_CHECK: 11,
  PRIORITY: 12,
  LINGER: 13,
  REUSEPORT: 15,
  PASSCRED: 16,
  PEERCRED: 17,
  RCVLOWAT: 18,
  RCVTIMEO: 20,
  SNDTIMEO: 21,
  BINDTODEVICE: 25,
  ATTACH_FILTER: 26,
  TIMESTAMP: 29,
  ACCEPTCONN: 30,
  SNDBUFFORCE: 32,
  RCVBUFFORCE: 33,
  PASSSEC: 34,
  TIMESTAMPNS: 35,
  MARK: 36,
  TIMESTAMPING: 37,
  PROTOCOL: 38,
  DOMAIN: 39,
  PEEK_OFF: 42,
  LOCK_FILTER: 44,
  ATTACH_REUSEPORT_CBPF: 51,
  PEERGROUPS: 59,
  NETNS_COOKIE: 71,
  BUF_LOCK: 72,
  PASSPIDFD: 76,
} as const;

const SIOCUNIXFILE = 0x89e0;
const SIOCGSKNS = 0x894c;
export const TIOCOUTQ = 0x5411;
export const SIOCOUTQNSD = 0x894b;
const SIOCATMARK = 0x8905;

/** Bytes of struct timeval and struct linger. */
export const TIMEVAL_BYTES = 16;
export const LINGER_BYTES = 8;

/** ioctl(fd, SIOCUNIXFILE) — an O_PATH descriptor of the node that a UNIX socket is bound to; undefined: to none. */
export function unixSocketNode(fd: number): number | undefined {
  const got = syscallNumber(SYS.ioctl, fd, SIOCUNIXFILE, 0);
  return got === -ERRNO.ENOENT ? undefined : checked(got, () => `ioctl(${fd}, SIOCUNIXFILE)`);
}

/** ioctl(fd, SIOCGSKNS) — a descriptor of the network namespace of a socket; undefined: not ours to ask. */
export function socketNetns(fd: number): number | undefined {
  const got = syscallNumber(SYS.ioctl, fd, SIOCGSKNS, 0);
  return got === -ERRNO.EPERM ? undefined : checked(got, () => `ioctl(${fd}, SIOCGSKNS)`);
}

/** SO_PEERCRED — process and effective ids of whoever made the connection; pid 0, uid and gid 0xffffffff: nobody. */
export function peerCredentials(fd: number): { pid: number; uid: number; gid: number } {
  const bytes = getsockopt(fd, { level: SOL_SOCKET, name: SO.PEERCRED }, 12); // struct ucred
  return { pid: bytes.readUInt32LE(0), uid: bytes.readUInt32LE(4), gid: bytes.readUInt32LE(8) };
}

/** NGROUPS_MAX, uapi/linux/limits.h. */
const NGROUPS_MAX = 65536;

/** SO_PEERGROUPS — the supplementary groups of whoever made the connection. */
export function peerGroups(fd: number): number[] {
  for (let room = 64; ; room *= 32) {
    const bytes = Buffer.alloc(Math.min(room, NGROUPS_MAX) * 4);
    const length = Buffer.alloc(4);
    length.writeInt32LE(bytes.length, 0);
    const got = syscallNumber(SYS.getsockopt, fd, SOL_SOCKET, SO.PEERGROUPS, bytes, length);
    if (got === -ERRNO.ENODATA) return [];
    if (got === -ERRNO.ERANGE && room < NGROUPS_MAX) continue;
    checked(got, () => `getsockopt(${fd}, SO_PEERGROUPS)`);
    return Array.from({ length: length.readInt32LE(0) >> 2 }, (_, i) => bytes.readUInt32LE(i * 4));
  }
}

/** ioctl(fd, SIOCATMARK) — whether the next byte to be read is the urgent one, or its place. False: the socket knows no such byte. */
export function isAtMark(fd: number): boolean {
  const bytes = Buffer.alloc(4);
  return syscallNumber(SYS.ioctl, fd, SIOCATMARK, bytes) >= 0 && bytes.readInt32LE(0) !== 0;
}

/** ioctl(fd, TIOCOUTQ) — what was sent and is not read (UNIX: memory of it) or not acknowledged (TCP) yet. */
export function bytesUnread(fd: number): number {
  const bytes = Buffer.alloc(4);
  checked(syscallNumber(SYS.ioctl, fd, TIOCOUTQ, bytes), () => `ioctl(${fd}, TIOCOUTQ)`);
  return bytes.readInt32LE(0);
}

/** Value of SO_RCVTIMEO, SO_SNDTIMEO. */
export function timeoutOf(bytes: Buffer): { sec: bigint; usec: bigint } {
  return { sec: bytes.readBigInt64LE(0), usec: bytes.readBigInt64LE(8) };
}

export function setTimeout(fd: number, name: number, { sec, usec }: { sec: bigint; usec: bigint }): void {
  const bytes = Buffer.alloc(TIMEVAL_BYTES);
  bytes.writeBigInt64LE(sec, 0);
  bytes.writeBigInt64LE(usec, 8);
  setsockopt(fd, { level: SOL_SOCKET, name }, bytes);
}

export const IFNAMSIZ = 16;

/** SO_BINDTODEVICE — the name; undefined: any device. */
export function boundDevice(fd: number): string | undefined {
  const name = getsockopt(fd, { level: SOL_SOCKET, name: SO.BINDTODEVICE }, IFNAMSIZ).toString("latin1").replace(/\0.*$/s, "");
  return name === "" ? undefined : name;
}

export function bindToDevice(fd: number, device: string): void {
  setsockopt(fd, { level: SOL_SOCKET, name: SO.BINDTODEVICE }, Buffer.from(`${device}\0`));
}

/** Value of SO_LINGER: seconds, undefined when off. */
export function lingerOf(bytes: Buffer): number | undefined {
  return bytes.readInt32LE(0) === 0 ? undefined : bytes.readInt32LE(4);
}

export function setLinger(fd: number, seconds: number): void {
  const bytes = Buffer.alloc(LINGER_BYTES);
  bytes.writeInt32LE(1, 0);
  bytes.writeInt32LE(seconds, 4);
  setsockopt(fd, { level: SOL_SOCKET, name: SO.LINGER }, bytes);
}

/**
 * SO_GET_FILTER — the instructions of a classic packet filter; empty when there is none. Their number goes in as length.
 *
 * Undefined: the filter is eBPF, which cannot be read.
 */
export function getFilter(fd: number): Buffer | undefined {
  const length = Buffer.alloc(4);
  const ask = (into: Buffer | number) => syscallNumber(SYS.getsockopt, fd, SOL_SOCKET, SO.ATTACH_FILTER, into, length);
  if (ask(0) === -ERRNO.EACCES) return undefined;
  const count = length.readInt32LE(0);
  if (count <= 0) return Buffer.alloc(0);
  const bytes = Buffer.alloc(count * SOCK_FILTER_BYTES);
  checked(ask(bytes), () => `getsockopt(${fd}, SO_GET_FILTER)`);
  return bytes;
}

/** SO_ATTACH_FILTER, or another option that takes a classic program. */
export function attachFilter(fd: number, instructions: Buffer, name: number = SO.ATTACH_FILTER): void {
  setsockopt(fd, { level: SOL_SOCKET, name }, encodeSockFprog(instructions.length / SOCK_FILTER_BYTES, addressOf(instructions)));
}
