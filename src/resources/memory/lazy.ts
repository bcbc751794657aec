/**
 * Lazy restore: which pages need not be there when a process goes on, and telling the kernel who brings them.
 *
 * Made with   userfaultfd(2) inside the process, UFFDIO_REGISTER with MODE_MISSING for whole mappings
 *
 * Registered as soon as everything else is in place: whatever the rest of a restore writes into such memory (the kernel's own
 * areas: restartable sequences, thread ids) must find the page, and not an empty one.
 */
import { closeSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import { MAP_LOCKED } from "../../linux/memory.js";
import { SYS } from "../../linux/syscalls.js";
import {
  UFFDIO_REGISTER_MODE_MISSING,
  UFFD_FEATURE_EVENT_FORK,
  UFFD_FEATURE_EVENT_REMAP,
  UFFD_FEATURE_EVENT_REMOVE,
  UFFD_FEATURE_EVENT_UNMAP,
  uffdioApi,
  uffdioRegister,
} from "../../linux/userfaultfd.js";
import { makeInside } from "../../target/hand-over.js";
import type { TracedTask } from "../../target/thread.js";
import type { Fd } from "../part.js";
import { AREA, isDroppable } from "./area.js";
import type { PageRange } from "./page-runs.js";
import { difference, intersection } from "./page-ranges.js";
import { type PageSource, partOf } from "./page-source.js";
import type { VmaEntry } from "./vma.schema.js";

const MAP_GROWSDOWN = 0x100;
const MAP_HUGETLB = 0x40000;
const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const EPERM = 1;

const FEATURES = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;

/** What a restore does with the pages of an address space. */
export interface LazySplit {
  /** Read before the process goes on. */
  readonly now: PageSource;
  /** Mappings some pages of which come later. */
  readonly later: readonly VmaEntry[];
}

/** Parts the pages of an address space. Pages that the images do not have must come later. */
export function splitLazy(pages: PageSource, vmas: readonly VmaEntry[]): LazySplit {
  // What is not here cannot be there at once, whatever it is.
  const candidates = vmas.filter((vma) => isPlainMemory(vma) || (isStack(vma) && pages.absent.some((range) => meets(range, vma))));
  const lazy = intersection([...pages.runs.filter((run) => run.lazy), ...pages.absent].sort(byStart), candidates);
  const later = candidates.filter((vma) => lazy.some((range) => meets(range, vma)));
  const runs = pages.runs.flatMap((run) => difference([run], run.lazy ? later : []).map(({ start, end }) => partOf(run, start, end)));
  return { now: { ...pages, runs, absent: difference(pages.absent, later) }, later };
}

function meets(a: PageRange, b: PageRange): boolean {
  return a.start < b.end && b.start < a.end;
}

function isStack(vma: VmaEntry): boolean {
  return (vma.status & AREA.ANON_PRIVATE) !== 0 && (vma.flags & MAP_GROWSDOWN) !== 0 && (vma.flags & MAP_LOCKED) === 0;
}

function byStart(a: PageRange, b: PageRange): number {
  return a.start < b.start ? -1 : 1;
}

/**
 * Memory of a process's own whose missing pages a userfaultfd can bring. A stack is used at once, and grows; locked memory must be there;
 * other kinds the kernel does not take.
 */
export function isPlainMemory(vma: VmaEntry): boolean {
  const kinds = AREA.ANON_PRIVATE | AREA.SHSTK | AREA.GUARD | AREA.AIO | AREA.VDSO | AREA.VVAR | AREA.VSYSCALL;
  if ((vma.status & kinds) !== AREA.ANON_PRIVATE || isDroppable(vma)) return false;
  return (vma.flags & (MAP_LOCKED | MAP_GROWSDOWN | MAP_HUGETLB)) === 0;
}

/** Has faults on missing pages of these mappings reported; returns our descriptor of the userfaultfd. */
export function registerLazy(task: TracedTask, mappings: readonly VmaEntry[]): Fd {
  const uffd = makeInside(task.leader, SYS.userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (uffd === undefined) throw kernelError(`userfaultfd() in process ${task.pid}`, EPERM, "restoring memory lazily");
  try {
    uffdioApi(uffd, FEATURES);
    for (const { start, end } of mappings) uffdioRegister(uffd, { address: start, sizeBytes: end - start }, UFFDIO_REGISTER_MODE_MISSING);
    return uffd;
  } catch (error) {
    closeSync(uffd);
    throw error;
  }
}
