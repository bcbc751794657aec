/**
 * The words of the image format for a mapping, and what they mean for mmap(2): kinds, flags, advice.
 *
 * Numbers of `status` are the image format's own; flags and protection are those of mman.h.
 */
import {
  HUGETLB_FLAG_ENCODE_SHIFT,
  MAP_ANONYMOUS,
  MAP_DROPPABLE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from "../../linux/memory.js";
import type { Vma } from "../../linux/proc/maps.js";
import type { VmaEntry } from "./vma.schema.js";

/** Bits of vma_entry.status. */
export const AREA = {
  REGULAR: 1,
  STACK: 2,
  VSYSCALL: 4,
  VDSO: 8,
  HEAP: 0x20,
  FILE_PRIVATE: 0x40,
  FILE_SHARED: 0x80,
  ANON_SHARED: 0x100,
  ANON_PRIVATE: 0x200,
  SYSV: 0x400,
  SOCKET: 0x800,
  VVAR: 0x1000,
  AIO: 0x2000,
  MEMFD: 0x4000,
  SHSTK: 0x8000,
  /** No mapping: a range of one that faults. CRIU writes it among the mappings, from 4.2 on. */
  GUARD: 0x10000,
  /** Floe's own: a ring of io_uring, which its file puts there. */
  IO_URING: 0x4000_0000,
} as const;

const MAP_TYPE = 0xf;

/** First address that no task of this processor can map. */
export const TASK_END = 0x7ffffffff000n;

/** smaps letters and the number of the madvise(2) that sets them; a set bit in vma_entry.madv is 1 << number. */
const ADVICE: readonly (readonly [letters: string, advice: number])[] = [
  ["sr", 2],
  ["rr", 1],
  ["dc", 10],
  ["mg", 12],
  ["hg", 14],
  ["nh", 15],
  ["dd", 16],
  ["wf", 18],
];

/** What a mapping is, as far as dump and restore treat it differently. */
export type AreaKind =
  | "anonymous"
  | "shared-anonymous"
  | "file"
  | "memfd"
  | "sysv"
  | "vvar"
  | "vdso"
  | "vsyscall"
  | "aio"
  | "uprobes"
  | "packet-ring"
  | "special";

/** Kind of a living mapping, from what /proc says. */
export function areaKind(vma: Vma): AreaKind {
  const { name } = vma;
  if (name === "" && vma.inode === 0n) return "anonymous"; // most are
  // The inode of a segment has the segment's number, and the first one is 0.
  if (name.startsWith("/SYSV") && vma.devMajor === 0) return "sysv";
  if (vma.inode === 0n) {
    if (name === "[vdso]") return "vdso";
    if (name === "[vvar]" || name === "[vvar_vclock]") return "vvar";
    if (name === "[vsyscall]") return "vsyscall";
    if (name.startsWith("[uprobes")) return "uprobes";
    if (name.startsWith("anon_inode:")) return "special";
    return "anonymous";
  }
  if (name.startsWith("/dev/zero (deleted)") || name.startsWith("[anon_shmem:")) return vma.shared ? "shared-anonymous" : "memfd";
  if (name.startsWith("/memfd:")) return "memfd";
  // Memory of huge pages is a file of hugetlbfs to the kernel; the shared sort is saved as one.
  if (name.startsWith("/anon_hugepage")) return vma.shared ? "memfd" : "anonymous";
  if (name.startsWith("/[aio]")) return "aio";
  if (name.startsWith("socket:")) return "packet-ring";
  if (name.startsWith("anon_inode:")) return "special";
  return "file";
}

/** mmap(2) flags to record for a mapping. */
export function mapFlags(vma: Vma, kind: AreaKind): number {
  let flags = vma.flags.has("dp") ? MAP_DROPPABLE : vma.shared ? MAP_SHARED : MAP_PRIVATE;
  if (kind === "anonymous" || kind === "vvar" || kind === "vdso" || kind === "vsyscall" || kind === "shared-anonymous")
    flags |= MAP_ANONYMOUS;
  if (vma.flags.has("gd")) flags |= MAP_GROWSDOWN;
  if (vma.flags.has("lo")) flags |= MAP_LOCKED;
  if (vma.flags.has("nr")) flags |= MAP_NORESERVE;
  if (vma.flags.has("ht")) flags |= MAP_HUGETLB | (Math.log2(vma.kernelPageSizeKib << 10) << HUGETLB_FLAG_ENCODE_SHIFT);
  return flags >>> 0;
}

export function protection(vma: Vma): number {
  return (vma.read ? PROT_READ : 0) | (vma.write ? PROT_WRITE : 0) | (vma.exec ? PROT_EXEC : 0);
}

const bitsOfFlags = new WeakMap<ReadonlySet<string>, bigint>();

/** Bits of vma_entry.madv. Mappings with the same flags share the set of them. */
export function adviceBits(vma: Vma): bigint {
  const known = bitsOfFlags.get(vma.flags);
  if (known !== undefined) return known;
  let bits = 0n;
  for (const [letters, advice] of ADVICE) if (vma.flags.has(letters)) bits |= 1n << BigInt(advice);
  bitsOfFlags.set(vma.flags, bits);
  return bits;
}

/** The madvise(2) numbers in vma_entry.madv. */
export function adviceOf(entry: VmaEntry): number[] {
  const bits = entry.madv ?? 0n;
  return bits === 0n ? [] : ADVICE.map(([, advice]) => advice).filter((advice) => (bits >> BigInt(advice)) & 1n);
}

export function isPrivate(entry: VmaEntry): boolean {
  return (entry.status & (AREA.ANON_PRIVATE | AREA.FILE_PRIVATE)) !== 0;
}

/** Mappings that are made by mmap: all but the kernel's own (vdso, vvar, vsyscall). */
export function isOrdinary(entry: VmaEntry): boolean {
  return (entry.status & (AREA.VDSO | AREA.VVAR | AREA.VSYSCALL | AREA.GUARD | AREA.IO_URING)) === 0;
}

/** Memory that the kernel may take away at any time, and that a child never gets. */
export function isDroppable(entry: VmaEntry): boolean {
  return (entry.flags & MAP_TYPE) === MAP_DROPPABLE;
}
