/**
 * A vdso of another build: what lets a process move between kernels.
 *
 * The code that the process knows stays at its address as ordinary memory, and each of its functions begins with a jump to the
 * function of the same name in this kernel's vdso, which lies in a hole. Next dump, the jumps are memory like any other.
 *
 * In the place of the old data come pages of zeros. To code that was interrupted on its way (and to functions that this kernel
 * has not) they say that there is no clock to be read, and it makes the system call.
 */
import { ImageError, Refusal } from "../../errors.js";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ } from "../../linux/memory.js";
import type { Problem } from "../part.js";
import type { CoreEntry } from "../tasks/core.schema.js";
import { AREA, TASK_END } from "./area.js";
import { readPages } from "./page-source.js";
import type { SavedSpace } from "./saved-space.js";
import type { KernelPages } from "./vdso.js";
import { vdsoFunctions } from "./vdso-elf.js";
import type { VmaEntry } from "./vma.schema.js";

const PAGE = 4096n;
/** mov $target, %rax; jmp *%rax: rax holds no argument. */
const JUMP_BYTES = 12;

/** Code to be written over memory that has been filled. */
export interface Jump {
  readonly address: bigint;
  readonly code: Buffer;
}

/** A process with its threads, as far as its vdso is concerned. */
export interface VdsoUser {
  readonly space: SavedSpace;
  readonly threads: readonly { readonly tid: number; readonly core: CoreEntry }[];
}

/** Gives spaces whose vdso is of another build a place for this kernel's, and jumps to it. */
export function adoptVdsos(users: readonly VdsoUser[], kernel: KernelPages): Problem[] {
  const foreign = users.filter(({ space }) => isForeign(space, kernel));
  if (foreign.length === 0) return [];
  const home = middleOfGap(
    users.map(({ space }) => space),
    kernel.pages.reduce((end, p) => (p.offset + p.length > end ? p.offset + p.length : end), 0n),
  );
  return foreign.flatMap((user) => {
    const because = home === undefined ? "there is no room for this kernel's vdso" : adopt(user, kernel, home);
    return because === undefined ? [] : [otherVdso(user.space, because)];
  });
}

export function otherVdso(space: SavedSpace, because: string): Refusal {
  return new Refusal(
    {
      code: "OTHER_VDSO",
      process: { pid: space.pid, comm: space.comm },
      resource: "its vdso",
      because: `this kernel's vdso is another build than the one the process uses, and ${because}`,
      remedy: ["Restore on a machine with the same kernel"],
    },
    "restore",
  );
}

/** The saved bytes of a mapping; undefined when the images do not have all of them. */
export function savedBytes({ pages }: SavedSpace, { start, end }: { start: bigint; end: bigint }): Buffer | undefined {
  const bytes = Buffer.alloc(Number(end - start));
  let at = start;
  for (const run of pages.runs) {
    if (run.end <= at || run.start > at || at >= end) continue;
    const to = run.end < end ? run.end : end;
    readPages(run, at, bytes.subarray(Number(at - start), Number(to - start)));
    at = to;
  }
  return at === end ? bytes : undefined;
}

/** The vdso of 32-bit processes can be looked at only in one (see checkCompatVdso). */
function isForeign(space: SavedSpace, kernel: KernelPages): boolean {
  const { vdso, vvar } = space;
  if (space.isCompat) return false;
  if (vvar !== undefined && vvar.end - vvar.start !== kernel.vvarBytes) return true;
  if (vdso === undefined) return false;
  if (vdso.end - vdso.start !== kernel.vdso.length) return true;
  return savedBytes(space, vdso)?.equals(kernel.code()) === false;
}

/** Why it cannot be done; undefined: `space` is changed so that it can be filled like any other. */
function adopt({ space, threads }: VdsoUser, kernel: KernelPages, home: bigint): string | undefined {
  const { vdso } = space;
  if (vdso !== undefined) {
    const bytes = savedBytes(space, vdso);
    if (bytes === undefined) return "the images do not have its code";
    const jumps = jumpsOf({ bytes, at: vdso.start, space }, kernel, home + kernel.vdso.offset);
    if (typeof jumps === "string") return jumps;
    for (const { tid, core } of threads) {
      const ip = core.thread_info?.gpregs?.ip;
      if (ip !== undefined && jumps.some(({ address }) => ip > address && ip < address + BigInt(JUMP_BYTES)))
        return `thread ${tid} stands at the beginning of one of its functions (dump the process again)`;
    }
    space.jumps = jumps;
  }
  for (const vma of space.mm.vmas) if (vma.status & (AREA.VDSO | AREA.VVAR)) becomeOrdinary(vma);
  const isUsed = vdso !== undefined;
  space.vvar = isUsed ? kernelArea(home, kernel.vvarBytes, AREA.VVAR) : undefined;
  space.vdso = isUsed ? kernelArea(home + kernel.vdso.offset, kernel.vdso.length, AREA.VDSO) : undefined;
  const added = [space.vvar, space.vdso].filter((vma) => vma !== undefined && vma.start < vma.end) as VmaEntry[];
  const at = space.mm.vmas.findIndex((vma) => vma.start >= home);
  space.mm.vmas.splice(at < 0 ? space.mm.vmas.length : at, 0, ...added);
  return undefined;
}

function becomeOrdinary(vma: VmaEntry): void {
  vma.prot = vma.status & AREA.VDSO ? PROT_READ | PROT_EXEC : PROT_READ;
  vma.status = AREA.REGULAR | AREA.ANON_PRIVATE;
  vma.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  vma.pgoff = 0n;
  delete vma.madv;
}

function kernelArea(start: bigint, length: bigint, kind: number): VmaEntry {
  const prot = kind === AREA.VDSO ? PROT_READ | PROT_EXEC : PROT_READ;
  const status = AREA.REGULAR | kind | AREA.ANON_PRIVATE;
  return { start, end: start + length, pgoff: 0n, shmid: 0n, prot, flags: MAP_PRIVATE | MAP_ANONYMOUS, status, fd: -1n };
}

/** A jump at each function that both have. */
function jumpsOf(old: { bytes: Buffer; at: bigint; space: SavedSpace }, kernel: KernelPages, target: bigint): Jump[] | string {
  const theirs = vdsoFunctions(old.bytes);
  if (typeof theirs === "string") {
    throw new ImageError({
      code: "IMAGE_BAD_VALUE",
      place: { file: old.space.pages.file },
      because: `the pages at 0x${old.at.toString(16)} are no vdso: ${theirs}`,
      remedy: ["Use an intact copy of the images directory", "Dump the process again"],
    });
  }
  const ours = vdsoFunctions(kernel.code());
  if (typeof ours === "string") return `this kernel's is not understood: ${ours}`;
  const starts = [...new Set(theirs.values()), old.bytes.length].sort((a, b) => a - b);
  const jumps = new Map<number, Jump>();
  for (const [name, offset] of theirs) {
    const to = ours.get(name);
    if (to === undefined) continue;
    const next = starts.find((start) => start > offset) ?? offset;
    if (next - offset < JUMP_BYTES) return `its function ${name} is too short for a jump to this kernel's`;
    jumps.set(offset, { address: old.at + BigInt(offset), code: jumpTo(target + BigInt(to)) });
  }
  return jumps.size === 0 ? "this kernel has none of its functions" : [...jumps.values()];
}

function jumpTo(target: bigint): Buffer {
  const code = Buffer.from("48b80000000000000000ffe0", "hex");
  code.writeBigUInt64LE(target, 2);
  return code;
}

/** The middle of the largest hole that all spaces have: far from whatever grows. */
function middleOfGap(spaces: readonly SavedSpace[], bytes: bigint): bigint | undefined {
  const all = spaces.flatMap((s) => s.mm.vmas).sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  let best = { start: 0n, end: 0n };
  let at = PAGE * 16n;
  for (const { start, end } of [...all.filter((vma) => vma.start < TASK_END), { start: TASK_END, end: TASK_END }]) {
    if (start - at > best.end - best.start) best = { start: at, end: start };
    if (end > at) at = end;
  }
  const middle = ((best.start + best.end) / 2n / PAGE) * PAGE;
  return middle + bytes <= best.end ? middle : undefined;
}
