/**
 * System V segments in an address space: attached as a whole, then cut and moved to where the task had them.
 *
 * A task may have unmapped, moved or protected parts of a segment, and other mappings may lie in between. So each
 * attachment is made where nothing is or will be, and its parts are moved from there.
 */
import { MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE } from "../../linux/memory.js";
import { SYS } from "../../linux/syscalls.js";
import { SHM_RDONLY } from "../../linux/sysv.js";
import type { Program } from "../../target/program.js";
import { TASK_END } from "./area.js";
import type { PageRange } from "./inherit.js";
import type { VmaEntry } from "./vma.schema.js";

/** Room that is left to what lies above and may grow downwards (stack_guard_gap, and more). */
const MARGIN = 1n << 28n;

/** Adds the calls that make `vmas`, parts of segments; `occupied`: what is there now and what will be. */
export function attachSegments(
  program: Program,
  vmas: readonly VmaEntry[],
  occupied: readonly PageRange[],
  sizeOf: (id: bigint) => { readonly bytes: bigint; readonly pageBytes: bigint },
): void {
  const taken = [...occupied];
  for (const parts of byAttachment(vmas)) {
    const [first] = parts as [VmaEntry];
    const { bytes, pageBytes } = sizeOf(first.shmid);
    const lowest = freeRange(taken, bytes + pageBytes + MARGIN);
    const at = ((lowest + pageBytes - 1n) / pageBytes) * pageBytes;
    taken.push({ start: at, end: at + bytes });
    const flags = (first.fdflags ?? 0) === 0 ? SHM_RDONLY : 0;
    program.call(SYS.shmat, first.shmid, at, flags).must(`attaching System V shared memory ${first.shmid}`);
    for (const { start, end, pgoff, prot } of parts) {
      program
        .call(SYS.mremap, at + pgoff, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, start)
        .must("moving an attached segment");
      const attachedAs = PROT_READ | (flags === 0 ? PROT_WRITE : 0);
      if (prot !== attachedAs) program.call(SYS.mprotect, start, end - start, prot).must("setting the protection of an attached segment");
    }
    // What is left are the parts that the task had unmapped.
    program.call(SYS.munmap, at, bytes).must("detaching the rest of a segment");
  }
}

/** Parts of one segment that came from one shmat(2): a part of it moved by the task counts as an attachment of its own. */
function byAttachment(vmas: readonly VmaEntry[]): VmaEntry[][] {
  const groups = new Map<string, VmaEntry[]>();
  for (const vma of vmas) {
    const key = `${vma.shmid} ${vma.start - vma.pgoff} ${vma.fdflags ?? 0}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [vma]);
    else group.push(vma);
  }
  return [...groups.values()];
}

/** The highest free range of `bytes`: low addresses are where the seed and the stub are. */
function freeRange(occupied: readonly PageRange[], bytes: bigint): bigint {
  const descending = occupied.filter((r) => r.start < TASK_END).sort((a, b) => (a.end > b.end ? -1 : 1));
  let top = TASK_END;
  for (const { start, end } of descending) {
    if (end < top && top - end >= bytes) return top - bytes;
    if (start < top) top = start;
  }
  return top - bytes;
}
