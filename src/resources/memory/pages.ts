/**
 * Saving memory contents: which pages are worth keeping, and how they get into the image.
 *
 * Found by    PAGEMAP_SCAN on /proc/PID/pagemap; lseek(SEEK_DATA) on shared memory
 * Saved by    writev(2) that the process itself makes on a descriptor it was handed; sendfile(2) for shared memory
 * Saved by    pread(2) on /proc/PID/mem into memory of ours, where there is room for it (room.ts)
 *
 * No page passes through JavaScript, but for those the process itself has no right to read.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { ERRNO, kernelError } from "../../linux/errno.js";
import { IOVEC_BYTES, UIO_MAXIOV } from "../../linux/memory.js";
import type { Vma } from "../../linux/proc/maps.js";
import { SYS } from "../../linux/syscalls.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { Program, type Result } from "../../target/program.js";
import { type Job, runAll } from "../../target/run.js";
import type { DumpSession, DumpTask } from "../part.js";
import { noteGuards } from "./mappings.js";
import { difference, union } from "./page-ranges.js";
import { type PageRange, type PageRun, findRuns, mayComeLater } from "./page-runs.js";
import { PAGE_RUN, pageRun } from "./page-source.js";
import { type ThinnedRun, pagesOfParent, thin } from "./increment.js";
import { stillReserved } from "./precopy.js";
import { Assembly } from "./precopy-assembly.js";
import { pagemapEntry, pagemapHead } from "./pagemap.schema.js";
import { writePages } from "./room.js";
import { saveSharedMemory } from "./shared.js";
import { CopiedPages, copiesAreAdoptedOutside, saveCopies } from "./snapshot.js";

const PAGE = 4096n;
/** One writev moves at most this much (MAX_RW_COUNT, rounded down). */
const MAX_TRANSFER = 0x7ff00000n;
const COPY_BYTES = 1 << 20;
/** How much is written between two reports of progress. */
const STEP_BYTES = 256n << 20n;

/** Counts of pages, for the whole tree. */
export interface PageFigures {
  scanned: number;
  written: number;
  lazy: number;
  /** Left to the images of the dump before. */
  skipped: number;
  sharedScanned: number;
  sharedWritten: number;
  sharedSkipped: number;
}

/** Saves the contents of all private memory of `tasks`, and of shared memory once per object. */
export function savePages(tasks: readonly DumpTask[], session: DumpSession): PageFigures {
  const figures: PageFigures = { scanned: 0, written: 0, lazy: 0, skipped: 0, sharedScanned: 0, sharedWritten: 0, sharedSkipped: 0 };
  const nextPagesId = counter();
  const copies: CopiedPages[] = [];
  const works: TaskPages[] = [];
  const canCopy = session.snapshots !== undefined && copiesAreAdoptedOutside(tasks);
  for (const task of distinctSpaces(tasks)) {
    const pagesId = nextPagesId();
    const copied = !canCopy ? undefined : CopiedPages.tryMake(task, session, pagesId);
    if (copied === undefined) works.push(new TaskPages(task, session, pagesId));
    else copies.push(copied);
  }
  if (copies.length > 0) {
    session.later(() => {
      session.snapshots?.saving();
      saveCopies(copies, figures);
    });
  }
  for (const work of works) work.prepare();
  const describe = () => {
    if (session.parent === undefined) for (const work of works) work.describe(figures);
  };
  // A tree that runs on does not wait for it; one that is to die waits for its writing anyway.
  if (session.livesOn) session.later(describe);
  writeAll(works, session, session.livesOn ? undefined : describe);
  for (const work of works) work.finish(figures);
  saveSharedMemory(tasks, session, { figures, nextPagesId });
  return figures;
}

/** Lets all tasks write at once: in one go, or, where somebody wants to see how far it is, in steps. */
function writeAll(works: readonly TaskPages[], session: DumpSession, meanwhile: (() => void) | undefined): void {
  const steps = works.map((work) => work.jobs());
  const total = works.reduce((sum, work) => sum + work.bytes, 0);
  const rounds = Math.max(1, ...steps.map((jobs) => jobs.length));
  for (let round = 0; round < rounds; round++) {
    const jobs = steps.flatMap((list) => list[round] ?? []);
    runAll(jobs, round === 0 ? meanwhile : undefined);
    session.progress?.(Math.round((total * (round + 1)) / rounds), total);
  }
}

function counter(): () => number {
  let last = 0;
  return () => ++last;
}

/** Tasks that share one address space are saved through the first of them. */
function distinctSpaces(tasks: readonly DumpTask[]): DumpTask[] {
  const seen = new Set<number>();
  return tasks.filter((task) => !seen.has(task.ids.vm) && seen.add(task.ids.vm));
}

/** Saving the private pages of one task. */
class TaskPages {
  readonly #task: DumpTask;
  readonly #session: DumpSession;
  readonly #restFd: number | undefined;
  readonly #pagesId: number;
  /** All pages of the image. */
  readonly #runs: readonly PageRun[];
  /** Those that are written now. */
  readonly #toWrite: readonly PageRun[];
  /** Those that stay with the process, which goes on standing still and is asked for them (a dump with --lazy-pages). */
  readonly #left: readonly PageRun[] = [];
  readonly #assembly: Assembly | undefined;
  readonly #writes: { readonly result: Result; readonly ranges: readonly PageRun[]; readonly bytes: bigint; readonly offset: bigint }[] =
    [];
  #remote: readonly number[] = [];
  /** All that was to be written, for the time after the freeze. */
  #copied: Buffer | undefined;
  /** The process's descriptor table is full: it cannot write itself. */
  #isFromOutside = false;

  constructor(task: DumpTask, session: DumpSession, pagesId: number) {
    this.#task = task;
    this.#session = session;
    this.#pagesId = pagesId;
    const copied = sharesItsSpace(task, session.tasks) ? undefined : session.precopied.get(task.traced.pid);
    const scratch = copied === undefined ? undefined : session.images.scratch();
    const pre = scratch === undefined ? undefined : copied;
    const { runs, guards } = findRuns(task.traced.pid, task.vmas, pre?.layout, session.unprotected);
    if (guards.length > 0) noteGuards(task, guards);
    if (session.leave !== undefined) {
      this.#left = runs.filter((run) => mayBeLeft(run, task.vmas));
      // What is kept here must not be asked for there.
      this.#runs = runs.filter((run) => !this.#left.includes(run)).map((run) => ({ ...run, lazy: false }));
      this.#toWrite = this.#runs;
      session.leave(task, this.#left);
      return;
    }
    this.#runs = pre === undefined ? runs : withReserved(runs, stillReserved(pre, runs, task.vmas), task.vmas);
    if (pre !== undefined && scratch !== undefined) {
      this.#assembly = new Assembly(this.#runs, pre, scratch);
      this.#toWrite = this.#assembly.rest;
      this.#restFd = scratch;
    } else this.#toWrite = runs;
  }

  /** Where pages are written to. */
  get #pagesFd(): number {
    return this.#restFd ?? this.#session.images.rawFile(this.#name);
  }

  get #name(): string {
    return `pages-${this.#pagesId}.img`;
  }

  /** Writes the pagemap, and counts. */
  describe(figures: PageFigures, runs: Iterable<DescribedRun> = this.#described()): void {
    describePages(this.#session.images, { pid: this.#task.pid, pagesId: this.#pagesId, runs }, figures);
  }

  #described(): Iterable<DescribedRun> {
    if (this.#left.length === 0) return entries(this.#runs);
    const left = [...entries(this.#left)].map((run) => ({ ...run, isLeft: true }));
    return [...entries(this.#runs), ...left].sort((a, b) => (a.start < b.start ? -1 : 1));
  }

  /** Copies the pages, or hands over the descriptor of the pages image. */
  prepare(): void {
    if (this.#toWrite.length === 0) return;
    const isShared = this.#session.precopied.get(this.#task.traced.pid)?.isShared ?? true;
    this.#copied = this.#session.room?.copy(this.#task.traced.pid, this.#toWrite, isShared);
    if (this.#copied !== undefined) return;
    try {
      this.#remote = handOver(this.#task.traced.leader, [this.#pagesFd]);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ERRNO.EMFILE) throw error;
      this.#isFromOutside = true;
    }
  }

  /** Bytes to be written. */
  get bytes(): number {
    return Number(this.#toWrite.reduce((sum, run) => sum + (run.end - run.start), 0n));
  }

  /** The program that writes everything, as few calls as vectors and transfer limits allow; for progress one for each step. */
  jobs(): Job[] {
    if (this.#isFromOutside) {
      copyFromOutside(this.#task.traced.pid, this.#toWrite, { fd: this.#pagesFd, offset: 0n });
      return [];
    }
    const [fd] = this.#remote;
    if (fd === undefined) return [];
    const isWatched = this.#session.progress !== undefined;
    const programs: Program[] = [];
    let program = new Program();
    let offset = 0n;
    for (const ranges of batches(this.#toWrite, isWatched ? STEP_BYTES : MAX_TRANSFER)) {
      if (isWatched || programs.length === 0) {
        program = new Program();
        programs.push(program);
      }
      const bytes = ranges.reduce((sum, r) => sum + (r.end - r.start), 0n);
      const vector = program.bytes(Buffer.alloc(ranges.length * IOVEC_BYTES));
      ranges.forEach((r, i) => {
        vector.content.writeBigUInt64LE(r.start, i * IOVEC_BYTES);
        vector.content.writeBigUInt64LE(r.end - r.start, i * IOVEC_BYTES + 8);
      });
      if (ranges[0]?.readable === true) {
        const result = program.call(SYS.pwritev, fd, vector, ranges.length, offset, 0);
        this.#writes.push({ result, ranges, bytes, offset });
      } else copyFromOutside(this.#task.traced.pid, ranges, { fd: this.#pagesFd, offset });
      offset += bytes;
    }
    return programs.filter((p) => p.entries.length > 0).map((p) => ({ thread: this.#task.traced.leader, program: p }));
  }

  /** Closes the descriptor there; what the process could not write itself is copied from outside. */
  finish(figures: PageFigures): void {
    for (const { result, ranges, bytes, offset } of this.#writes) {
      if (result.errno === 0 && result.value === bytes) continue;
      const EFAULT = 14;
      if (result.errno !== 0 && result.errno !== EFAULT) throw result.entry.error();
      if (result.errno === 0 && result.value % PAGE !== 0n) throw kernelError(`writing ${this.#name}`, -28, "the image is cut short");
      copyFromOutside(this.#task.traced.pid, ranges, { fd: this.#pagesFd, offset });
    }
    if (this.#remote.length > 0) closeRemote(this.#task.traced.leader, this.#remote);
    const { parent, images } = this.#session;
    this.#session.later(() => {
      // Also when there is nothing to write: the image has to be there.
      const fd = this.#pagesFd;
      if (this.#copied !== undefined) writePages(fd, this.#copied, this.#name);
      this.#assembly?.finish(images, this.#name);
      if (parent === undefined) return;
      const before = pagesOfParent(parent, { kind: "PAGEMAP", id: this.#task.pid });
      this.describe(figures, thin(images.rawFile(this.#name), [...entries(this.#runs)], before, this.#known()));
    });
  }

  /** What was compared with the parent before the freeze and has not been written since. */
  #known(): { looked: readonly PageRange[]; equal: readonly PageRange[] } | undefined {
    const equal = this.#session.precopied.get(this.#task.traced.pid)?.equal;
    if (this.#assembly === undefined || equal === undefined) return undefined;
    return { equal, looked: difference(joinRanges(this.#runs), this.#assembly.rest) };
  }
}

function joinRanges(runs: readonly PageRange[]): PageRange[] {
  return union(runs, []);
}

/** Pages as the pagemap is to have them. */
export type DescribedRun = {
  readonly start: bigint;
  readonly end: bigint;
  readonly lazy: boolean;
  readonly isLeft?: boolean;
} & Partial<ThinnedRun>;

/** Writes the pagemap of a process, and counts. */
export function describePages(
  images: DumpSession["images"],
  of: { readonly pid: number; readonly pagesId: number; readonly runs: Iterable<DescribedRun> },
  figures: PageFigures,
): void {
  images.append("PAGEMAP", [of.pid], { type: pagemapHead, value: { pages_id: of.pagesId } });
  for (const { start, end, lazy, inParent = false, isLeft = false } of of.runs) {
    const pages = Number((end - start) / PAGE);
    const flags = inParent ? PAGE_RUN.IN_PARENT : (isLeft ? 0 : PAGE_RUN.PRESENT) | (lazy ? PAGE_RUN.LAZY : 0);
    images.append("PAGEMAP", [of.pid], { type: pagemapEntry, value: pageRun(start, end, flags) });
    figures.scanned += pages;
    if (lazy) figures.lazy += pages;
    if (inParent) figures.skipped += pages;
    else if (!isLeft) figures.written += pages;
  }
}

/** What a restore may do without at first; a stack is needed at once. */
function mayBeLeft(run: PageRun, vmas: readonly Vma[]): boolean {
  return run.lazy && !vmas.some((vma) => vma.flags.has("gd") && vma.start < run.end && run.start < vma.end);
}

/** Another process that runs in the same memory could have had I/O under way when tracking began. */
function sharesItsSpace(task: DumpTask, tasks: readonly DumpTask[]): boolean {
  return tasks.some((other) => other !== task && other.ids.vm === task.ids.vm);
}

/** Pages that are not there and are stored as zeros, put in their order among the others. */
function withReserved(runs: readonly PageRun[], reserved: readonly PageRange[], vmas: readonly Vma[]): PageRun[] {
  const needed = vmas.filter((vma) => !mayComeLater(vma));
  const more = reserved.map(({ start, end }) => {
    const lazy = !needed.some((vma) => vma.start < end && start < vma.end);
    return { start, end, lazy, readable: true, unwritten: true };
  });
  return [...runs, ...more].sort((a, b) => (a.start < b.start ? -1 : 1));
}

/** Runs as the pagemap has them: it makes no difference there how pages came into the image. */
export function* entries(runs: readonly PageRun[]): Generator<{ start: bigint; end: bigint; lazy: boolean }> {
  let last: { start: bigint; end: bigint; lazy: boolean } | undefined;
  for (const { start, end, lazy } of runs) {
    if (last !== undefined && last.end === start && last.lazy === lazy) last.end = end;
    else {
      if (last !== undefined) yield last;
      last = { start, end, lazy };
    }
  }
  if (last !== undefined) yield last;
}

/** Cuts runs into groups that one pwritev can take; a group is all readable or all not. */
export function* batches(runs: readonly PageRun[], limit: bigint): Generator<PageRun[]> {
  let group: PageRun[] = [];
  let room = limit;
  for (const run of runs) {
    for (let at = run.start; at < run.end; ) {
      if (group.length === UIO_MAXIOV || room === 0n || (group[0] !== undefined && group[0].readable !== run.readable)) {
        yield group;
        group = [];
        room = limit;
      }
      const end = run.end - at > room ? at + room : run.end;
      group.push({ ...run, start: at, end });
      room -= end - at;
      at = end;
    }
  }
  if (group.length > 0) yield group;
}

/** Copies pages that the process itself may not read: /proc/PID/mem does not ask for its rights. */
export function copyFromOutside(pid: number, ranges: readonly PageRun[], to: { fd: number; offset: bigint }): void {
  const memory = openSync(`/proc/${pid}/mem`, "r");
  const buffer = Buffer.allocUnsafe(COPY_BYTES);
  let offset = Number(to.offset);
  try {
    for (const { start, end } of ranges) {
      for (let at = start; at < end; ) {
        const want = Number(end - at < BigInt(COPY_BYTES) ? end - at : BigInt(COPY_BYTES));
        const got = readSync(memory, buffer, 0, want, at as unknown as number);
        if (got <= 0) throw kernelError(`read(/proc/${pid}/mem, 0x${at.toString(16)})`, -5);
        writeSync(to.fd, buffer, 0, got, offset);
        at += BigInt(got);
        offset += got;
      }
    }
  } finally {
    closeSync(memory);
  }
}
