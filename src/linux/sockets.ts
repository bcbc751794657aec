/**
 * socket(2) and relatives, raw options, and messages with descriptors (SCM_RIGHTS), unix(7).
 *
 * Constants: uapi/asm-generic/socket.h, linux/socket.h, net/scm.h.
 */
import { ERRNO, checked } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SOCKADDR_STORAGE_BYTES, type SocketAddress, decodeAddress, encodeAddress } from "./addresses.js";
import { encodeIovecs } from "./memory.js";
import { getDumpable, setDumpable } from "./prctl.js";
import { SYS } from "./syscalls.js";

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const SOL_SOCKET = 1;
export const SCM_RIGHTS = 1;
export const SCM_CREDENTIALS = 2;
/** Descriptors one message can carry. */
export const SCM_MAX_FD = 253;

export const MSG_OOB = 0x1;
export const MSG_PEEK = 0x2;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_CTRUNC = 0x8;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** What kind of socket: family (AF_…), type (SOCK_…), protocol. */
export interface SocketKind {
  readonly family: number;
  readonly type: number;
  readonly protocol?: number;
}

function text({ family, type, protocol = 0 }: SocketKind): string {
  return `${family}, ${type}, ${protocol}`;
}

/** int socket(int domain, int type, int protocol). */
export function socket(kind: SocketKind): number {
  return checked(syscallNumber(SYS.socket, kind.family, kind.type, kind.protocol ?? 0), () => `socket(${text(kind)})`);
}

/** Keeps an id as it is, setresgid(2). */
const KEEP = -1;

/** socket(2) by this thread as a member of group `gid`. */
export function socketInGroup(kind: SocketKind, gid: number): number {
  const own = process.getegid?.() ?? 0;
  if (own === gid) return socket(kind);
  const become = (id: number) => checked(syscallNumber(SYS.setresgid, KEEP, id, KEEP), () => `setresgid(-1, ${id}, -1)`);
  // A change of identity also makes a process of ours unreadable for others.
  const dumpable = getDumpable();
  become(gid);
  try {
    return socket(kind);
  } finally {
    become(own);
    if (dumpable < 2) setDumpable(dumpable);
  }
}

/** int socketpair(int domain, int type, int protocol, int sv[2]). */
export function socketpair(kind: SocketKind): [number, number] {
  const bytes = Buffer.alloc(8);
  checked(syscallNumber(SYS.socketpair, kind.family, kind.type, kind.protocol ?? 0, bytes), () => `socketpair(${text(kind)})`);
  return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
}

/** int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen). */
export function bind(fd: number, address: SocketAddress): void {
  const bytes = encodeAddress(address);
  checked(syscallNumber(SYS.bind, fd, bytes, bytes.length), () => `bind(${fd}, ${address.family})`);
}

/** int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen). */
export function connect(fd: number, address: SocketAddress): void {
  const bytes = encodeAddress(address);
  checked(syscallNumber(SYS.connect, fd, bytes, bytes.length), () => `connect(${fd}, ${address.family})`);
}

/** connect(2) to AF_UNSPEC — ends what connect(2) did to a datagram socket. */
export function disconnect(fd: number): void {
  const bytes = Buffer.alloc(16);
  checked(syscallNumber(SYS.connect, fd, bytes, bytes.length), () => `connect(${fd}, AF_UNSPEC)`);
}

/** int listen(int sockfd, int backlog). */
export function listen(fd: number, backlog: number): void {
  checked(syscallNumber(SYS.listen, fd, backlog), () => `listen(${fd}, ${backlog})`);
}

/** int accept4(int sockfd, …, int flags). */
export function accept4(fd: number, flags: number): number {
  return checked(syscallNumber(SYS.accept4, fd, 0, 0, flags), () => `accept4(${fd}, 0${flags.toString(8)})`);
}

/** int shutdown(int sockfd, int how) — SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2. */
export function shutdown(fd: number, how: number): void {
  checked(syscallNumber(SYS.shutdown, fd, how), () => `shutdown(${fd}, ${how})`);
}

function name(call: typeof SYS.getsockname | typeof SYS.getpeername, fd: number): number | SocketAddress {
  const bytes = Buffer.alloc(SOCKADDR_STORAGE_BYTES);
  const length = Buffer.alloc(4);
  length.writeInt32LE(bytes.length, 0);
  const got = syscallNumber(call, fd, bytes, length);
  return got < 0 ? got : decodeAddress(bytes.subarray(0, Math.min(bytes.length, length.readInt32LE(0))));
}

/** int getsockname(int sockfd, …). */
export function getsockname(fd: number): SocketAddress {
  const got = name(SYS.getsockname, fd);
  if (typeof got !== "number") return got;
  checked(got, () => `getsockname(${fd})`);
  return { family: "other", number: 0, bytes: Buffer.alloc(0) };
}

/** int getpeername(int sockfd, …) — undefined when not connected. */
export function getpeername(fd: number): SocketAddress | undefined {
  const got = name(SYS.getpeername, fd);
  if (typeof got !== "number") return got;
  if (got !== -ERRNO.ENOTCONN) checked(got, () => `getpeername(${fd})`);
  return undefined;
}

/** An option: level (SOL_…, IPPROTO_…) and name (SO_…). */
export interface SocketOption {
  readonly level: number;
  readonly name: number;
}

/** int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen) — the bytes the kernel gave. */
export function getsockopt(fd: number, option: SocketOption, maxBytes = 4): Buffer {
  const bytes = Buffer.alloc(maxBytes);
  const length = Buffer.alloc(4);
  length.writeInt32LE(maxBytes, 0);
  checked(
    syscallNumber(SYS.getsockopt, fd, option.level, option.name, bytes, length),
    () => `getsockopt(${fd}, ${option.level}, ${option.name})`,
  );
  return bytes.subarray(0, Math.min(maxBytes, length.readInt32LE(0)));
}

/** getsockopt(2) without room for the value: the length that the kernel names. */
export function getsockoptLength(fd: number, option: SocketOption): number {
  const length = Buffer.alloc(4);
  checked(
    syscallNumber(SYS.getsockopt, fd, option.level, option.name, length, length),
    () => `getsockopt(${fd}, ${option.level}, ${option.name})`,
  );
  return length.readInt32LE(0);
}

/** getsockopt(2) of an int. */
export function getsockoptInt(fd: number, option: SocketOption): number {
  return getsockopt(fd, option).readInt32LE(0);
}

/** int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen). */
export function setsockopt(fd: number, option: SocketOption, value: Uint8Array): void {
  checked(
    syscallNumber(SYS.setsockopt, fd, option.level, option.name, value, value.length),
    () => `setsockopt(${fd}, ${option.level}, ${option.name})`,
  );
}

/** setsockopt(2) of an int. */
export function setsockoptInt(fd: number, option: SocketOption, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value, 0);
  setsockopt(fd, option, bytes);
}

/** A control message, cmsg(3). */
export interface ControlMessage {
  readonly level: number;
  readonly type: number;
  readonly data: Buffer;
}

/** sizeof(struct cmsghdr). */
const CMSG_HEAD_BYTES = 16;
/** sizeof(struct msghdr). */
export const MSGHDR_BYTES = 56;

function aligned(length: number): number {
  return (length + 7) & ~7;
}

export function encodeControl(messages: readonly ControlMessage[]): Buffer {
  const parts = messages.map(({ level, type, data }) => {
    const bytes = Buffer.alloc(aligned(CMSG_HEAD_BYTES + data.length));
    bytes.writeBigUInt64LE(BigInt(CMSG_HEAD_BYTES + data.length), 0);
    bytes.writeInt32LE(level, 8);
    bytes.writeInt32LE(type, 12);
    data.copy(bytes, CMSG_HEAD_BYTES);
    return bytes;
  });
  return Buffer.concat(parts);
}

/** Control messages of a buffer; stops at a length that cannot be. */
export function decodeControl(bytes: Buffer): ControlMessage[] {
  const found: ControlMessage[] = [];
  for (let at = 0; at + CMSG_HEAD_BYTES <= bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    if (length < CMSG_HEAD_BYTES || at + length > bytes.length) break;
    found.push({
      level: bytes.readInt32LE(at + 8),
      type: bytes.readInt32LE(at + 12),
      data: Buffer.from(bytes.subarray(at + CMSG_HEAD_BYTES, at + length)),
    });
    at += aligned(length);
  }
  return found;
}

/** The control message that carries descriptors. */
export function rightsMessage(fds: readonly number[]): ControlMessage {
  const data = Buffer.alloc(fds.length * 4);
  fds.forEach((fd, i) => data.writeInt32LE(fd, i * 4));
  return { level: SOL_SOCKET, type: SCM_RIGHTS, data };
}

/** Descriptors that control messages carried. */
export function rightsOf(messages: readonly ControlMessage[]): number[] {
  return messages
    .filter(({ level, type }) => level === SOL_SOCKET && type === SCM_RIGHTS)
    .flatMap(({ data }) => Array.from({ length: data.length / 4 }, (_, i) => data.readInt32LE(i * 4)));
}

/** struct msghdr over memory of the process that makes the call. */
export function encodeMsghdr(parts: {
  name?: { address: bigint; sizeBytes: number };
  vectors: { address: bigint; count: number };
  control?: { address: bigint; sizeBytes: number };
}): Buffer {
  const bytes = Buffer.alloc(MSGHDR_BYTES);
  bytes.writeBigUInt64LE(parts.name?.address ?? 0n, 0);
  bytes.writeUInt32LE(parts.name?.sizeBytes ?? 0, 8);
  bytes.writeBigUInt64LE(parts.vectors.address, 16);
  bytes.writeBigUInt64LE(BigInt(parts.vectors.count), 24);
  bytes.writeBigUInt64LE(parts.control?.address ?? 0n, 32);
  bytes.writeBigUInt64LE(BigInt(parts.control?.sizeBytes ?? 0), 40);
  return bytes;
}

/** Memory of ours that a message header points to, with the header itself. Kept together so that all of it stays alive. */
interface LocalMessage {
  readonly header: Buffer;
  readonly keep: readonly Uint8Array[];
}

function localMessage(data: Uint8Array, control: Buffer, name?: Buffer): LocalMessage {
  const vector = encodeIovecs([{ address: addressOf(data), sizeBytes: BigInt(data.length) }]);
  const header = encodeMsghdr({
    vectors: { address: addressOf(vector), count: 1 },
    ...(control.length > 0 ? { control: { address: addressOf(control), sizeBytes: control.length } } : {}),
    ...(name === undefined ? {} : { name: { address: addressOf(name), sizeBytes: name.length } }),
  });
  return { header, keep: [data, control, vector, ...(name === undefined ? [] : [name])] };
}

/** ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags) — the bytes sent. */
export function sendmsg(
  fd: number,
  data: Uint8Array,
  options: { control?: readonly ControlMessage[]; to?: SocketAddress; flags?: number } = {},
): number {
  const { control = [], to, flags = MSG_NOSIGNAL } = options;
  const message = localMessage(data, encodeControl(control), to === undefined ? undefined : encodeAddress(to));
  const sent = syscallNumber(SYS.sendmsg, fd, message.header, flags);
  return checked(sent, () => `sendmsg(${fd}, ${message.keep[0]?.length} bytes, ${control.length} control messages)`);
}

/** poll(2) of one descriptor, at once: the events of `wanted` that are there, and POLLERR, POLLHUP, POLLNVAL. */
export function pollOnce(fd: number, wanted: number): number {
  const entry = Buffer.alloc(8); // struct pollfd { int fd; short events; short revents; }
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(wanted, 4);
  checked(syscallNumber(SYS.poll, entry, 1, 0), () => `poll(${fd})`);
  return entry.readInt16LE(6);
}

/** A message that was received. */
export interface ReceivedMessage {
  readonly data: Buffer;
  readonly control: readonly ControlMessage[];
  /** Of a datagram, when the sender has an address. */
  readonly from: SocketAddress | undefined;
  /** MSG_TRUNC, MSG_CTRUNC, …. */
  readonly flags: number;
}

/** ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags) — undefined: nothing there (EAGAIN). Empty data: end, or empty datagram. */
export function recvmsg(fd: number, options: { maxBytes: number; controlBytes?: number; flags?: number }): ReceivedMessage | undefined {
  const { maxBytes, controlBytes = 0, flags = MSG_CMSG_CLOEXEC } = options;
  const data = Buffer.alloc(Math.max(1, maxBytes));
  const control = Buffer.alloc(controlBytes);
  const from = Buffer.alloc(SOCKADDR_STORAGE_BYTES);
  const message = localMessage(data, control, from);
  const { header } = message;
  const got = syscallNumber(SYS.recvmsg, fd, header, flags);
  if (got === -ERRNO.EAGAIN) return undefined;
  // SAFETY: naming the message here keeps all of its memory, also the vector, until the kernel is done.
  const length = checked(got, () => `recvmsg(${fd}, ${message.keep[0]?.length} bytes)`);
  const nameLength = header.readUInt32LE(8);
  return {
    data: data.subarray(0, Math.min(length, data.length)),
    control: decodeControl(control.subarray(0, Number(header.readBigUInt64LE(40)))),
    from: nameLength === 0 ? undefined : decodeAddress(from.subarray(0, Math.min(nameLength, from.length))),
    flags: header.readInt32LE(48),
  };
}

/** In page zero, which no process of ours maps: uapi/linux/sysctl.h, vm.mmap_min_addr. */
const NOWHERE = 16n;

/**
 * recvmsg(2) into memory of which only the first `goodBytes` exist — the bytes received.
 *
 * The kernel copies piece by piece as they were sent, and gives up a piece that does not fit wholly: so what comes back
 * ends where a piece begins. 0: not even the first piece fits.
 */
export function recvWholePieces(fd: number, options: { goodBytes: number; badBytes: number; flags: number }): number {
  const { goodBytes, badBytes, flags } = options;
  const data = Buffer.alloc(Math.max(1, goodBytes));
  const vectors = encodeIovecs([
    { address: addressOf(data), sizeBytes: BigInt(goodBytes) },
    { address: NOWHERE, sizeBytes: BigInt(badBytes) },
  ]);
  const header = encodeMsghdr({ vectors: { address: addressOf(vectors), count: 2 } });
  const got = syscallNumber(SYS.recvmsg, fd, header, flags);
  if (got === -ERRNO.EFAULT) return 0;
  // SAFETY: `data` and `vectors` are named here so that they live until the kernel is done.
  return checked(got, () => `recvmsg(${fd}, ${data.length} bytes of ${goodBytes + badBytes}, ${vectors.length / 16} vectors)`);
}

/** recv(2) with MSG_OOB and `flags` — the urgent byte; undefined: there is none, or it is read inline. */
export function recvUrgent(fd: number, flags = 0): number | undefined {
  const byte = Buffer.alloc(1);
  const got = syscallNumber(SYS.recvfrom, fd, byte, 1, MSG_OOB | flags, 0, 0);
  return got === 1 ? byte[0] : undefined;
}

/** Sends one byte and up to {@link SCM_MAX_FD} descriptors over a Unix socket. */
export function sendFds(fd: number, fds: readonly number[]): void {
  sendmsg(fd, Buffer.alloc(1), { control: [rightsMessage(fds)] });
}

/** Receives what {@link sendFds} sent; the descriptors are close-on-exec. */
export function receiveFds(fd: number): number[] {
  const got = recvmsg(fd, { maxBytes: 1, controlBytes: aligned(CMSG_HEAD_BYTES + SCM_MAX_FD * 4) });
  return got === undefined ? [] : rightsOf(got.control);
}
