/**
 * The kernel's own pages in every process: vdso (code) and vvar (data). They cannot be made, only moved.
 *
 * Read from   /proc/self/maps; the vdso's pages in the image show whether it is the same build (see vdso-other.ts)
 * Made with   mremap(2) of the pages that a new process is born with
 */
import { MREMAP_FIXED, MREMAP_MAYMOVE, ownMemory } from "../../linux/memory.js";
import { readProcessMemory } from "../../linux/ptrace.js";
import type { Vma } from "../../linux/proc/maps.js";
import { readMaps } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import type { Program } from "../../target/program.js";
import type { SavedSpace } from "./saved-space.js";
import { otherVdso, savedBytes } from "./vdso-other.js";

/** A mapping of the kernel's, by its place relative to the first one. */
interface Piece {
  readonly offset: bigint;
  readonly length: bigint;
}

/** The kernel's pages as processes of this kernel have them. */
export interface KernelPages {
  readonly vvar: readonly Piece[];
  readonly vdso: Piece;
  readonly vvarBytes: bigint;
  /** All of them. */
  readonly pages: readonly Piece[];
  /** The bytes of the vdso. */
  code(): Buffer;
}

/** Looks at our own kernel pages. */
export function kernelPages(): KernelPages {
  const own = readMaps(process.pid).filter((v) => v.name.startsWith("[vvar") || v.name === "[vdso]");
  const vdsoVma = own.find((v) => v.name === "[vdso]");
  const first = own[0]?.start ?? 0n;
  const piece = (v: Vma): Piece => ({ offset: v.start - first, length: v.end - v.start });
  const vvar = own.filter((v) => v !== vdsoVma).map(piece);
  const vvarBytes = vvar.reduce((sum, p) => sum + p.length, 0n);
  const vdso = vdsoVma === undefined ? { offset: 0n, length: 0n } : piece(vdsoVma);
  const code = (): Buffer => ownMemory({ address: vdsoVma?.start ?? 0n, sizeBytes: vdso.length });
  return { pages: own.map(piece), vvar, vdso, vvarBytes, code };
}

/** asm/prctl.h */
const ARCH_MAP_VDSO_32 = 0x2002;
const ARCH_MAP_VDSO_64 = 0x2003;

/** Adds the calls that put the vdso of `space`'s kind of process in the place of the other kind's at `old`. */
export function mapOtherVdso(program: Program, space: SavedSpace, old: readonly { start: bigint; end: bigint }[]): void {
  for (const { start, end } of old) program.call(SYS.munmap, start, end - start).must("unmapping the vdso");
  const first = space.vvar?.start ?? space.vdso?.start;
  if (first !== undefined)
    program.call(SYS.arch_prctl, space.isCompat ? ARCH_MAP_VDSO_32 : ARCH_MAP_VDSO_64, first).must("mapping the vdso");
}

/** Whether the vdso that a 32-bit process now has is the one it had. */
export function checkCompatVdso(space: SavedSpace, pid: number): void {
  const saved = space.isCompat && space.vdso !== undefined ? savedBytes(space, space.vdso) : undefined;
  if (saved === undefined || space.vdso === undefined) return;
  const now = Buffer.alloc(saved.length);
  if (readProcessMemory(pid, space.vdso.start, now) !== now.length || !now.equals(saved))
    throw otherVdso(space, "32-bit processes are not moved between kernels");
}

/** Adds the calls that move the kernel's pages from `from` (address of the first of them) to where `space` had them. */
export function moveKernelPages(program: Program, pages: KernelPages, move: { from: bigint; space: SavedSpace; scratch: bigint }): void {
  const { space, from, scratch } = move;
  const targets = [
    ...pages.vvar.map((p) => ({ piece: p, to: space.vvar === undefined ? undefined : space.vvar.start + p.offset })),
    { piece: pages.vdso, to: space.vdso?.start },
  ];
  if (targets.every(({ piece, to }) => to === from + piece.offset)) return;
  const total = pages.vvarBytes + pages.vdso.length;
  // Old and new places may overlap, so the way leads through free room.
  const near = targets.some(({ to }) => to !== undefined && to < from + total && to + total > from);
  const via = near ? scratch : from;
  for (const { piece, to } of targets) {
    if (to === undefined) {
      program.call(SYS.munmap, from + piece.offset, piece.length).must("unmapping the vdso");
    } else if (near) remap(program, piece.length, { from: from + piece.offset, to: via + piece.offset });
  }
  for (const { piece, to } of targets) if (to !== undefined) remap(program, piece.length, { from: via + piece.offset, to });
}

function remap(program: Program, length: bigint, { from, to }: { from: bigint; to: bigint }): void {
  program.call(SYS.mremap, from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to).must("moving the vdso");
}
