/**
 * Mapping a ring of io_uring where it was: mmap(2) and mremap(2) take no address for it (EINVAL), only the kernel chooses. So
 * everything else that is free is filled for a moment, and the kernel has one place to choose. The peak of the address space
 * (VmPeak) shows that afterwards, nothing else.
 */
import {
  MADV_DONTFORK,
  MAP_ANONYMOUS,
  MAP_FIXED_NOREPLACE,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_NONE,
} from "../../linux/memory.js";
import { readMaps } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { TracedThread } from "../../target/thread.js";
import { TASK_END } from "../memory/area.js";
import type { PageRange } from "../memory/page-runs.js";
import type { FloeRingMapping } from "./io-uring.schema.js";

/** Nothing is mapped below, see sysctl vm.mmap_min_addr. */
const LOWEST = 0x10000n;

/** Maps parts of the ring with descriptor `ring` of the process; all its other memory is in place. */
export function mapRing(thread: TracedThread, ring: number, mappings: readonly FloeRingMapping[]): void {
  if (mappings.length === 0) return;
  const least = mappings.reduce((min, { bytes }) => (bytes < min ? bytes : min), TASK_END);
  const free = gapsOf(thread.task.pid).filter(({ start, end }) => end - start >= least);
  for (const { start, bytes } of mappings) {
    if (free.some((gap) => gap.start <= start && start + bytes <= gap.end)) continue;
    throw new Error(`cannot map a ring of io_uring at 0x${start.toString(16)} in process ${thread.task.pid}: something else is there`);
  }
  const program = new Program();
  const filler = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
  for (const { start, end } of free) {
    program.call(SYS.mmap, start, end - start, PROT_NONE, filler, -1, 0).must("filling free addresses, to map a ring of io_uring");
  }
  const placed = mappings.map(({ start, bytes, offset, prot, dont_fork }) => {
    program.call(SYS.munmap, start, bytes).must("making room for a ring of io_uring");
    const at = program.call(SYS.mmap, 0, bytes, prot, MAP_SHARED, ring, offset).must("mapping a ring of io_uring");
    if (dont_fork === true) program.call(SYS.madvise, at, bytes, MADV_DONTFORK).must("keeping a ring of io_uring from children");
    return { start, at };
  });
  for (const range of free.flatMap((gap) => without(gap, mappings))) {
    program.call(SYS.munmap, range.start, range.end - range.start).must("giving free addresses back");
  }
  run(thread, program);
  const wrong = placed.find(({ start, at }) => at.value !== start);
  if (wrong !== undefined)
    throw new Error(`a ring of io_uring was mapped at 0x${wrong.at.value.toString(16)}, not at 0x${wrong.start.toString(16)}`);
}

function gapsOf(pid: number): PageRange[] {
  const gaps: PageRange[] = [];
  let at = LOWEST;
  for (const { start, end } of readMaps(pid)) {
    if (start > TASK_END) break;
    if (start > at) gaps.push({ start: at, end: start });
    if (end > at) at = end;
  }
  return at < TASK_END ? [...gaps, { start: at, end: TASK_END }] : gaps;
}

/** What is left of a gap. */
function without(gap: PageRange, mappings: readonly FloeRingMapping[]): PageRange[] {
  const inside = mappings.filter(({ start }) => start >= gap.start && start < gap.end).sort((a, b) => (a.start < b.start ? -1 : 1));
  const left: PageRange[] = [];
  let at = gap.start;
  for (const { start, bytes } of inside) {
    if (start > at) left.push({ start: at, end: start });
    at = start + bytes;
  }
  return at < gap.end ? [...left, { start: at, end: gap.end }] : left;
}
