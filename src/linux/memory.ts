/**
 * Memory of our own and of others: mmap(2), madvise(2), process_vm_readv(2), mincore(2), memfd_create(2).
 *
 * Constants: uapi/asm-generic/mman-common.h, uapi/asm-generic/mman.h, uapi/linux/mman.h, uapi/linux/memfd.h,
 * uapi/asm/mman.h.
 */
import { checked, kernelError } from "./errno.js";
import { addressOf, syscall, syscallNumber, viewMemory } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";
import { cstring } from "./text.js";

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const PROT_GROWSDOWN = 0x0100_0000;

export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_SHARED_VALIDATE = 0x03;
export const MAP_DROPPABLE = 0x08;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_32BIT = 0x40;
export const MAP_GROWSDOWN = 0x0100;
export const MAP_LOCKED = 0x2000;
export const MAP_NORESERVE = 0x4000;
export const MAP_POPULATE = 0x8000;
export const MAP_NONBLOCK = 0x1_0000;
export const MAP_STACK = 0x2_0000;
export const MAP_HUGETLB = 0x4_0000;
export const MAP_SYNC = 0x8_0000;
export const MAP_FIXED_NOREPLACE = 0x10_0000;
/** log2 of the huge page size goes into MAP_… and MFD_… flags above this bit. */
export const HUGETLB_FLAG_ENCODE_SHIFT = 26;

export const MREMAP_MAYMOVE = 1;
export const MREMAP_FIXED = 2;
export const MREMAP_DONTUNMAP = 4;

export const MADV_NORMAL = 0;
export const MADV_RANDOM = 1;
export const MADV_SEQUENTIAL = 2;
export const MADV_WILLNEED = 3;
export const MADV_DONTNEED = 4;
export const MADV_FREE = 8;
export const MADV_REMOVE = 9;
export const MADV_DONTFORK = 10;
export const MADV_DOFORK = 11;
export const MADV_MERGEABLE = 12;
export const MADV_UNMERGEABLE = 13;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;
export const MADV_DONTDUMP = 16;
export const MADV_DODUMP = 17;
export const MADV_WIPEONFORK = 18;
export const MADV_KEEPONFORK = 19;
export const MADV_COLD = 20;
export const MADV_PAGEOUT = 21;
export const MADV_POPULATE_READ = 22;
export const MADV_POPULATE_WRITE = 23;
export const MADV_COLLAPSE = 25;
export const MADV_GUARD_INSTALL = 102;
export const MADV_GUARD_REMOVE = 103;

export const MCL_FUTURE = 2;
export const MCL_ONFAULT = 4;
export const MLOCK_ONFAULT = 1;

export const MS_ASYNC = 1;
export const MS_INVALIDATE = 2;
export const MS_SYNC = 4;

export const MFD_CLOEXEC = 1;
export const MFD_ALLOW_SEALING = 2;
export const MFD_HUGETLB = 4;
export const MFD_NOEXEC_SEAL = 8;
export const MFD_EXEC = 0x10;

export const PAGE_BYTES = 4096;

/** A range of addresses. */
export interface MemoryRange {
  readonly address: bigint;
  readonly sizeBytes: bigint;
}

function text({ address, sizeBytes }: MemoryRange): string {
  return `0x${address.toString(16)}, ${sizeBytes}`;
}

/** What mmap(2) is asked for. */
export interface MapRequest {
  /** 0n: anywhere. */
  readonly address?: bigint;
  readonly sizeBytes: bigint;
  /** PROT_…. */
  readonly protection: number;
  /** MAP_…. */
  readonly flags: number;
  readonly fd?: number;
  readonly offset?: bigint;
}

/** void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset) — in Floe itself; the address. */
export function mmap(request: MapRequest): bigint {
  const { address = 0n, sizeBytes, protection, flags, fd = -1, offset = 0n } = request;
  const got = BigInt(syscall(SYS.mmap, address, sizeBytes, protection, flags, fd, offset));
  if (got < 0n) {
    throw kernelError(`mmap(${text({ address, sizeBytes })}, ${protection}, 0x${flags.toString(16)}, ${fd}, ${offset})`, got);
  }
  return got;
}

/** int munmap(void *addr, size_t length). */
export function munmap(range: MemoryRange): void {
  checked(syscallNumber(SYS.munmap, range.address, range.sizeBytes), () => `munmap(${text(range)})`);
}

/** int mprotect(void *addr, size_t len, int prot). */
export function mprotect(range: MemoryRange, protection: number): void {
  checked(syscallNumber(SYS.mprotect, range.address, range.sizeBytes, protection), () => `mprotect(${text(range)}, ${protection})`);
}

/** int madvise(void *addr, size_t length, int advice). */
export function madvise(range: MemoryRange, advice: number): void {
  checked(syscallNumber(SYS.madvise, range.address, range.sizeBytes, advice), () => `madvise(${text(range)}, ${advice})`);
}

/** int msync(void *addr, size_t length, int flags). */
export function msync(range: MemoryRange, flags: number): void {
  checked(syscallNumber(SYS.msync, range.address, range.sizeBytes, flags), () => `msync(${text(range)}, ${flags})`);
}

/** int mincore(void *addr, size_t length, unsigned char *vec) — one byte a page, lowest bit: in memory. */
export function mincore(range: MemoryRange): Buffer {
  const pages = Buffer.alloc(Number((range.sizeBytes + BigInt(PAGE_BYTES) - 1n) / BigInt(PAGE_BYTES)));
  checked(syscallNumber(SYS.mincore, range.address, range.sizeBytes, pages), () => `mincore(${text(range)})`);
  return pages;
}

/** int memfd_create(const char *name, unsigned int flags). */
export function memfdCreate(name: string, flags: number): number {
  return checked(syscallNumber(SYS.memfd_create, cstring(name), flags), () => `memfd_create("${name}", ${flags})`);
}

/** Most vectors one call takes (uapi/linux/uio.h). */
export const UIO_MAXIOV = 1024;
export const IOVEC_BYTES = 16;

/** An array of struct iovec over ranges of any process. */
export function encodeIovecs(ranges: readonly MemoryRange[]): Buffer {
  const bytes = Buffer.alloc(ranges.length * IOVEC_BYTES);
  ranges.forEach((range, i) => {
    bytes.writeBigUInt64LE(range.address, i * IOVEC_BYTES);
    bytes.writeBigUInt64LE(range.sizeBytes, i * IOVEC_BYTES + 8);
  });
  return bytes;
}

function transfer(nr: number, name: string, options: { pid: number; local: Uint8Array; remote: readonly MemoryRange[] }): number {
  const { pid, local, remote } = options;
  // SAFETY: `local` is held by `options` until the call is over, and the vector says its exact length.
  const here = encodeIovecs([{ address: addressOf(local), sizeBytes: BigInt(local.length) }]);
  return checked(
    syscallNumber(nr, pid, here, 1, encodeIovecs(remote), remote.length, 0),
    () => `${name}(${pid}, ${remote.length} ranges from 0x${(remote[0]?.address ?? 0n).toString(16)})`,
  );
}

/**
 * ssize_t process_vm_readv(pid_t pid, …) — reads ranges of another process, one after the other, into `into`.
 *
 * Returns the bytes read: fewer when a later range cannot be read. At most 1024 ranges. Needs PTRACE_MODE_ATTACH.
 */
export function processVmReadv(pid: number, remote: readonly MemoryRange[], into: Uint8Array): number {
  return transfer(SYS.process_vm_readv, "process_vm_readv", { pid, local: into, remote });
}

/** ssize_t process_vm_writev(pid_t pid, …) — writes `from` over ranges of another process, one after the other. */
export function processVmWritev(pid: number, remote: readonly MemoryRange[], from: Uint8Array): number {
  return transfer(SYS.process_vm_writev, "process_vm_writev", { pid, local: from, remote });
}

/** Has the kernel give all pages of `memory` now, not when they are written to. */
export function populate(memory: Uint8Array): void {
  const page = BigInt(PAGE_BYTES);
  const start = addressOf(memory);
  const first = start - (start % page);
  const sizeBytes = start + BigInt(memory.length) - first;
  // Before 5.14 there is no such advice, and the pages come one by one.
  syscallNumber(SYS.madvise, first, ((sizeBytes + page - 1n) / page) * page, MADV_POPULATE_WRITE);
}

/** Our own memory as a Buffer, without a copy. SAFETY: the mapping must outlive every use of it. */
export function ownMemory(range: MemoryRange): Buffer {
  return viewMemory(range.address, Number(range.sizeBytes));
}
