/**
 * fcntl(2), one function per request: flags, owners of signals, pipe sizes, seals, leases, locks; flock(2).
 *
 * Constants: uapi/asm-generic/fcntl.h, uapi/linux/fcntl.h.
 */
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const F_DUPFD = 0;
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_GETLK = 5;
export const F_SETLK = 6;
export const F_SETSIG = 10;
export const F_GETSIG = 11;
export const F_SETOWN_EX = 15;
export const F_GETOWN_EX = 16;
export const F_GETOWNER_UIDS = 17;
export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const F_SETLEASE = 1024;
export const F_GETLEASE = 1025;
export const F_DUPFD_CLOEXEC = 1030;
export const F_SETPIPE_SZ = 1031;
export const F_GETPIPE_SZ = 1032;
export const F_ADD_SEALS = 1033;
export const F_GET_SEALS = 1034;

export const FD_CLOEXEC = 1;

export const F_OWNER_TID = 0;
export const F_OWNER_PID = 1;
export const F_OWNER_PGRP = 2;

export const F_SEAL_SEAL = 0x01;
export const F_SEAL_SHRINK = 0x02;
export const F_SEAL_GROW = 0x04;
export const F_SEAL_WRITE = 0x08;
export const F_SEAL_FUTURE_WRITE = 0x10;
export const F_SEAL_EXEC = 0x20;

export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;

export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

function request(name: string, nr: number, fd: number, arg: number | Uint8Array = 0): number {
  return checked(syscallNumber(SYS.fcntl, fd, nr, arg), () => `fcntl(${fd}, ${name}${typeof arg === "number" ? `, ${arg}` : ""})`);
}

/** fcntl(fd, F_DUPFD_CLOEXEC, min) — duplicates to the lowest free number from `min` up. */
export function dupFrom(fd: number, min: number): number {
  return request("F_DUPFD_CLOEXEC", F_DUPFD_CLOEXEC, fd, min);
}

/** fcntl(fd, F_GETFD) — FD_CLOEXEC or 0. */
export function getDescriptorFlags(fd: number): number {
  return request("F_GETFD", F_GETFD, fd);
}

/** fcntl(fd, F_SETFD, flags). */
export function setDescriptorFlags(fd: number, flags: number): void {
  request("F_SETFD", F_SETFD, fd, flags);
}

/** fcntl(fd, F_GETFL) — open flags of the description. */
export function getStatusFlags(fd: number): number {
  return request("F_GETFL", F_GETFL, fd);
}

/** fcntl(fd, F_SETFL, flags) — changes O_APPEND, FASYNC, O_DIRECT, O_NOATIME, O_NONBLOCK only. */
export function setStatusFlags(fd: number, flags: number): void {
  request("F_SETFL", F_SETFL, fd, flags);
}

/** fcntl(fd, F_GETPIPE_SZ) — capacity of a pipe in bytes. */
export function getPipeSize(fd: number): number {
  return request("F_GETPIPE_SZ", F_GETPIPE_SZ, fd);
}

/** fcntl(fd, F_SETPIPE_SZ, size) — above /proc/sys/fs/pipe-max-size: CAP_SYS_RESOURCE; EBUSY: smaller than its content. */
export function setPipeSize(fd: number, sizeBytes: number): void {
  request("F_SETPIPE_SZ", F_SETPIPE_SZ, fd, sizeBytes);
}

/** struct f_owner_ex: who gets the signals of a file. Pid 0: nobody. */
export interface FileOwner {
  /** F_OWNER_…. */
  readonly type: number;
  readonly pid: number;
}

/** fcntl(fd, F_GETOWN_EX) — as seen from Floe's pid namespace. */
export function getOwner(fd: number): FileOwner {
  const bytes = Buffer.alloc(8);
  request("F_GETOWN_EX", F_GETOWN_EX, fd, bytes);
  return { type: bytes.readInt32LE(0), pid: bytes.readInt32LE(4) };
}

const KEEP = -1;

/**
 * fcntl(fd, F_SETOWN_EX) — records the caller's uid and euid as well: those of `sender`, if given.
 *
 * The system call changes them in the calling thread only, which keeps its saved uid 0 to come back by.
 */
export function setOwner(fd: number, owner: FileOwner, sender?: { readonly uid: number; readonly euid: number }): void {
  const bytes = Buffer.alloc(8);
  bytes.writeInt32LE(owner.type, 0);
  bytes.writeInt32LE(owner.pid, 4);
  const other = sender?.uid === process.getuid?.() && sender?.euid === process.geteuid?.() ? undefined : sender;
  if (other !== undefined)
    checked(syscallNumber(SYS.setresuid, other.uid, other.euid, KEEP), () => `setresuid(${other.uid}, ${other.euid}, -1)`);
  try {
    request("F_SETOWN_EX", F_SETOWN_EX, fd, bytes);
  } finally {
    if (other !== undefined) checked(syscallNumber(SYS.setresuid, 0, 0, 0), () => "setresuid(0, 0, 0)");
  }
}

/** uapi/linux/fcntl.h: what one can be told of a directory by a signal: DN_ACCESS, _MODIFY, _CREATE, _DELETE, _RENAME, _ATTRIB. */
export const DN_EVENTS = [1, 2, 4, 8, 16, 32] as const;
/** More than once. */
export const DN_MULTISHOT = 0x8000_0000;
export const F_NOTIFY = 1026;

/** fcntl(fd, F_NOTIFY, mask) — adds to what the caller is told of a directory; without any event: no more of it. */
export function fNotify(fd: number, mask: number): void {
  request("F_NOTIFY", F_NOTIFY, fd, mask);
}

/** fcntl(fd, F_GETSIG) — the signal for I/O; 0: SIGIO without siginfo. */
export function getSignal(fd: number): number {
  return request("F_GETSIG", F_GETSIG, fd);
}

/** fcntl(fd, F_SETSIG, sig). */
export function setSignal(fd: number, signal: number): void {
  request("F_SETSIG", F_SETSIG, fd, signal);
}

/** fcntl(fd, F_GETOWNER_UIDS) — uid and euid of who set the owner; needs CONFIG_CHECKPOINT_RESTORE. */
export function getOwnerUids(fd: number): { readonly uid: number; readonly euid: number } {
  const bytes = Buffer.alloc(8);
  request("F_GETOWNER_UIDS", F_GETOWNER_UIDS, fd, bytes);
  return { uid: bytes.readUInt32LE(0), euid: bytes.readUInt32LE(4) };
}

/** fcntl(fd, F_GET_SEALS) — F_SEAL_… of a memfd; undefined for files that cannot have any. */
export function getSeals(fd: number): number | undefined {
  const got = syscallNumber(SYS.fcntl, fd, F_GET_SEALS, 0);
  return got === -ERRNO.EINVAL ? undefined : checked(got, () => `fcntl(${fd}, F_GET_SEALS)`);
}

/** fcntl(fd, F_ADD_SEALS, seals). */
export function addSeals(fd: number, seals: number): void {
  request("F_ADD_SEALS", F_ADD_SEALS, fd, seals);
}

/** fcntl(fd, F_GETLEASE) — F_RDLCK, F_WRLCK or F_UNLCK; of a lease being broken, what it is to become. */
export function getLease(fd: number): number {
  return request("F_GETLEASE", F_GETLEASE, fd);
}

/** fcntl(fd, F_SETLEASE, type) — on a file of another user: CAP_LEASE. */
export function setLease(fd: number, type: number): void {
  request("F_SETLEASE", F_SETLEASE, fd, type);
}

/** struct flock. */
export interface RecordLock {
  /** F_RDLCK, F_WRLCK, F_UNLCK. */
  readonly type: number;
  readonly start: bigint;
  /** 0: to the end of the file. */
  readonly sizeBytes: bigint;
  /** Holder, as F_GETLK tells; 0 in requests, -1 for open-file-description locks. */
  readonly pid: number;
}

export const FLOCK_BYTES = 32;

/** With SEEK_SET. */
export function encodeFlock(lock: RecordLock): Buffer {
  const bytes = Buffer.alloc(FLOCK_BYTES);
  bytes.writeInt16LE(lock.type, 0);
  bytes.writeBigInt64LE(lock.start, 8);
  bytes.writeBigInt64LE(lock.sizeBytes, 16);
  bytes.writeInt32LE(lock.pid, 24);
  return bytes;
}

export function decodeFlock(bytes: Buffer): RecordLock {
  return {
    type: bytes.readInt16LE(0),
    start: bytes.readBigInt64LE(8),
    sizeBytes: bytes.readBigInt64LE(16),
    pid: bytes.readInt32LE(24),
  };
}

/** fcntl(fd, F_OFD_GETLK) — the first lock that stands in the way of `wanted`, or undefined. */
export function getOfdLock(fd: number, wanted: RecordLock): RecordLock | undefined {
  const bytes = encodeFlock({ ...wanted, pid: 0 });
  request("F_OFD_GETLK", F_OFD_GETLK, fd, bytes);
  const found = decodeFlock(bytes);
  return found.type === F_UNLCK ? undefined : found;
}

/** fcntl(fd, F_OFD_SETLK) — sets a lock that belongs to the open file description; EAGAIN when another is in the way. */
export function setOfdLock(fd: number, lock: RecordLock): void {
  request("F_OFD_SETLK", F_OFD_SETLK, fd, encodeFlock({ ...lock, pid: 0 }));
}

/** int flock(int fd, int operation) — whether it worked; false: another holds a lock (LOCK_NB). */
export function flock(fd: number, operation: number): boolean {
  const got = syscallNumber(SYS.flock, fd, operation);
  if (got === -ERRNO.EAGAIN) return false;
  checked(got, () => `flock(${fd}, ${operation})`);
  return true;
}
