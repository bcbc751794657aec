/**
 * userfaultfd(2), ioctl_userfaultfd(2): handling page faults, and tracking writes.
 *
 * Ranges are addresses in the process that made the userfaultfd. Source: uapi/linux/userfaultfd.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import type { MemoryRange } from "./memory.js";
import { SYS } from "./syscalls.js";

export const UFFD_API = 0xaan;
export const UFFD_USER_MODE_ONLY = 1;

export const UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1n << 0n;
export const UFFD_FEATURE_EVENT_FORK = 1n << 1n;
export const UFFD_FEATURE_EVENT_REMAP = 1n << 2n;
export const UFFD_FEATURE_EVENT_REMOVE = 1n << 3n;
export const UFFD_FEATURE_MISSING_HUGETLBFS = 1n << 4n;
export const UFFD_FEATURE_MISSING_SHMEM = 1n << 5n;
export const UFFD_FEATURE_EVENT_UNMAP = 1n << 6n;
export const UFFD_FEATURE_SIGBUS = 1n << 7n;
export const UFFD_FEATURE_THREAD_ID = 1n << 8n;
export const UFFD_FEATURE_MINOR_HUGETLBFS = 1n << 9n;
export const UFFD_FEATURE_MINOR_SHMEM = 1n << 10n;
export const UFFD_FEATURE_EXACT_ADDRESS = 1n << 11n;
export const UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1n << 12n;
export const UFFD_FEATURE_WP_UNPOPULATED = 1n << 13n;
export const UFFD_FEATURE_POISON = 1n << 14n;
export const UFFD_FEATURE_WP_ASYNC = 1n << 15n;
export const UFFD_FEATURE_MOVE = 1n << 16n;

export const UFFDIO_REGISTER_MODE_MISSING = 1n << 0n;
export const UFFDIO_REGISTER_MODE_WP = 1n << 1n;
export const UFFDIO_REGISTER_MODE_MINOR = 1n << 2n;

export const UFFDIO_COPY_MODE_DONTWAKE = 1n << 0n;
export const UFFDIO_COPY_MODE_WP = 1n << 1n;
export const UFFDIO_ZEROPAGE_MODE_DONTWAKE = 1n << 0n;
export const UFFDIO_WRITEPROTECT_MODE_WP = 1n << 0n;
export const UFFDIO_WRITEPROTECT_MODE_DONTWAKE = 1n << 1n;
export const UFFDIO_MOVE_MODE_DONTWAKE = 1n << 0n;
export const UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES = 1n << 1n;

/** Requests, for programs that make them inside the target. */
export const UFFDIO_API = 0xc018_aa3f;
export const UFFDIO_REGISTER = 0xc020_aa00;
export const UFFDIO_UNREGISTER = 0x8010_aa01;
export const UFFDIO_WAKE = 0x8010_aa02;
export const UFFDIO_COPY = 0xc028_aa03;
export const UFFDIO_ZEROPAGE = 0xc020_aa04;
export const UFFDIO_MOVE = 0xc028_aa05;
export const UFFDIO_WRITEPROTECT = 0xc018_aa06;
export const UFFDIO_POISON = 0xc020_aa08;

export const UFFD_EVENT_PAGEFAULT = 0x12;
export const UFFD_EVENT_FORK = 0x13;
export const UFFD_EVENT_REMAP = 0x14;
export const UFFD_EVENT_REMOVE = 0x15;
export const UFFD_EVENT_UNMAP = 0x16;

export const UFFD_PAGEFAULT_FLAG_WRITE = 1n << 0n;
export const UFFD_PAGEFAULT_FLAG_WP = 1n << 1n;
export const UFFD_PAGEFAULT_FLAG_MINOR = 1n << 2n;

function words(values: readonly bigint[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, i) => bytes.writeBigUInt64LE(value, i * 8));
  return bytes;
}

/** struct uffdio_api. */
export function encodeUffdioApi(features: bigint): Buffer {
  return words([UFFD_API, features, 0n]);
}

/** struct uffdio_register. */
export function encodeUffdioRegister(range: MemoryRange, mode: bigint): Buffer {
  return words([range.address, range.sizeBytes, mode, 0n]);
}

/** struct uffdio_range. */
export function encodeUffdioRange(range: MemoryRange): Buffer {
  return words([range.address, range.sizeBytes]);
}

/** struct uffdio_copy; the source can be filled in at {@link UFFDIO_COPY_SOURCE}. */
export function encodeUffdioCopy(range: MemoryRange, source = 0n, mode = 0n): Buffer {
  return words([range.address, source, range.sizeBytes, mode, 0n]);
}

/** Offset of the source address, of 8 bytes. */
export const UFFDIO_COPY_SOURCE = 8;

function request(name: string, nr: number, fd: number, arg: Buffer): void {
  checked(syscallNumber(SYS.ioctl, fd, nr, arg), () => `ioctl(${fd}, ${name}, 0x${arg.readBigUInt64LE(0).toString(16)})`);
}

/** int userfaultfd(int flags) — for the caller's own memory. Without UFFD_USER_MODE_ONLY: CAP_SYS_PTRACE or the sysctl. */
export function userfaultfd(flags: number): number {
  return checked(syscallNumber(SYS.userfaultfd, flags), () => `userfaultfd(0x${flags.toString(16)})`);
}

/** ioctl(fd, UFFDIO_API) — asks for features, once per descriptor; returns all that the kernel has. EINVAL: some it has not. */
export function uffdioApi(fd: number, features: bigint): bigint {
  const arg = encodeUffdioApi(features);
  request("UFFDIO_API", UFFDIO_API, fd, arg);
  return arg.readBigUInt64LE(8);
}

/** ioctl(fd, UFFDIO_REGISTER) — returns the ioctls allowed on the range, as bits by number. */
export function uffdioRegister(fd: number, range: MemoryRange, mode: bigint): bigint {
  const arg = encodeUffdioRegister(range, mode);
  request("UFFDIO_REGISTER", UFFDIO_REGISTER, fd, arg);
  return arg.readBigUInt64LE(24);
}

/** ioctl(fd, UFFDIO_UNREGISTER). */
export function uffdioUnregister(fd: number, range: MemoryRange): void {
  request("UFFDIO_UNREGISTER", UFFDIO_UNREGISTER, fd, encodeUffdioRange(range));
}

/** ioctl(fd, UFFDIO_WAKE) — wakes threads that wait for a page of the range. */
export function uffdioWake(fd: number, range: MemoryRange): void {
  request("UFFDIO_WAKE", UFFDIO_WAKE, fd, encodeUffdioRange(range));
}

/** How far an operation on a range came. */
export interface UffdioProgress {
  /** Bytes done. */
  readonly doneBytes: bigint;
  /** 0, or the error that stopped it: EAGAIN (the address space is changing: try again), EEXIST (a page is there). */
  readonly errno: number;
}

function progress(fd: number, nr: number, arg: Buffer): UffdioProgress {
  const result = syscallNumber(SYS.ioctl, fd, nr, arg);
  const done = arg.readBigInt64LE(arg.length - 8);
  return { doneBytes: done < 0n ? 0n : done, errno: result < 0 ? -result : 0 };
}

/** ioctl(fd, UFFDIO_COPY) — puts a copy of Floe's memory at `source` into the missing pages of `range`, and wakes waiters. */
export function uffdioCopy(fd: number, range: MemoryRange, options: { source: bigint; mode?: bigint }): UffdioProgress {
  return progress(fd, UFFDIO_COPY, encodeUffdioCopy(range, options.source, options.mode));
}

/** ioctl(fd, UFFDIO_ZEROPAGE) — puts the zero page at the missing pages of `range`. */
export function uffdioZeropage(fd: number, range: MemoryRange, mode = 0n): UffdioProgress {
  return progress(fd, UFFDIO_ZEROPAGE, words([range.address, range.sizeBytes, mode, 0n]));
}

/** ioctl(fd, UFFDIO_POISON) — whoever touches the missing pages of `range` gets SIGBUS, also after `fd` is closed; since 6.6. */
export function uffdioPoison(fd: number, range: MemoryRange): UffdioProgress {
  return progress(fd, UFFDIO_POISON, words([range.address, range.sizeBytes, 0n, 0n]));
}

/** ioctl(fd, UFFDIO_MOVE) — moves pages inside the process that has the userfaultfd; since 6.8. */
export function uffdioMove(fd: number, range: MemoryRange, options: { source: bigint; mode?: bigint }): UffdioProgress {
  return progress(fd, UFFDIO_MOVE, words([range.address, options.source, range.sizeBytes, options.mode ?? 0n, 0n]));
}

/** ioctl(fd, UFFDIO_WRITEPROTECT) — protects or unprotects a range registered with MODE_WP. */
export function uffdioWriteprotect(fd: number, range: MemoryRange, mode: bigint): void {
  request("UFFDIO_WRITEPROTECT", UFFDIO_WRITEPROTECT, fd, words([range.address, range.sizeBytes, mode]));
}

/** sizeof(struct uffd_msg): what a read of the descriptor returns, or a multiple. */
export const UFFD_MSG_BYTES = 32;

/** struct uffd_msg. */
export type UffdMessage =
  | { readonly event: "pagefault"; readonly flags: bigint; readonly address: bigint; readonly tid: number }
  | { readonly event: "fork"; readonly fd: number }
  | { readonly event: "remap"; readonly from: bigint; readonly to: bigint; readonly sizeBytes: bigint }
  | { readonly event: "remove" | "unmap"; readonly start: bigint; readonly end: bigint }
  | { readonly event: "unknown"; readonly number: number };

export function decodeUffdMessage(bytes: Buffer, at = 0): UffdMessage {
  const word = (i: number) => bytes.readBigUInt64LE(at + 8 + i * 8);
  const number = bytes.readUInt8(at);
  switch (number) {
    case UFFD_EVENT_PAGEFAULT:
      return { event: "pagefault", flags: word(0), address: word(1), tid: bytes.readUInt32LE(at + 24) };
    case UFFD_EVENT_FORK:
      return { event: "fork", fd: bytes.readUInt32LE(at + 8) };
    case UFFD_EVENT_REMAP:
      return { event: "remap", from: word(0), to: word(1), sizeBytes: word(2) };
    case UFFD_EVENT_REMOVE:
      return { event: "remove", start: word(0), end: word(1) };
    case UFFD_EVENT_UNMAP:
      return { event: "unmap", start: word(0), end: word(1) };
    default:
      return { event: "unknown", number };
  }
}
