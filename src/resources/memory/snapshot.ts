/**
 * Memory saved from a copy-on-write copy of its process: the process goes on as soon as the copy is there, and the copy is
 * written when there is time.
 *
 * Saved from   the copy (`target/copy.ts`), in the same way as otherwise from the process itself
 * Before       what a copy does not get, or not reliably: MADV_DONTFORK, MADV_WIPEONFORK, droppable and locked memory, huge pages,
 *              and the pages of the kernel's own mappings
 * Not          for processes with a userfaultfd (a fork may wait for its reader, which stands still) or with breakpoints in them;
 *              not where an orphan, which the copy is, would become the child of a process of the tree
 */
import { kernelError } from "../../linux/errno.js";
import { copyFileRange } from "../../linux/files.js";
import { IOVEC_BYTES } from "../../linux/memory.js";
import type { Vma } from "../../linux/proc/maps.js";
import { SYS } from "../../linux/syscalls.js";
import { canBeCopied, makeCopy } from "../../target/copy.js";
import { handOver } from "../../target/hand-over.js";
import { Program, type Result } from "../../target/program.js";
import { type Job, runAll } from "../../target/run.js";
import type { TracedTask } from "../../target/thread.js";
import type { DumpSession, DumpTask, Fd } from "../part.js";
import { areaKind } from "./area.js";
import { pagesOfParent, thin } from "./increment.js";
import { noteGuards } from "./mappings.js";
import { type PageFigures, batches, copyFromOutside, describePages, entries } from "./pages.js";
import { type PageRange, type PageRun, findRuns } from "./page-runs.js";
import { isProbed } from "./uprobes.js";

/** One writev moves at most this much (MAX_RW_COUNT, rounded down). */
const MAX_TRANSFER = 0x7ff00000n;
/** More than this is not worth it: it would be saved while the process stands still anyhow. */
const MAX_EARLY_BYTES = 16n << 20n;
const FLAGS_LOST: readonly string[] = ["dc", "wf", "dp", "lo", "ht"];
const FLAGS_TRACKED: readonly string[] = ["um", "uw", "ui"];
const EFAULT = 14;

/** Whether the copies of processes of this tree find a parent outside of it. */
export function copiesAreAdoptedOutside(tasks: readonly DumpTask[]): boolean {
  return tasks.every((task) => task.traced.nsPid !== 1 && task.core.tc?.child_subreaper !== true);
}

/** Neighbouring pages and where they go in the image. */
interface Piece {
  readonly runs: readonly PageRun[];
  readonly offset: bigint;
}

/** What was saved while the process stood still: its runs, one behind another in a file. */
interface Early {
  readonly runs: readonly PageRun[];
  readonly guards: readonly PageRange[];
  readonly fd: Fd;
}

/** The private pages of one process, of which there is a copy. */
export class CopiedPages {
  readonly #task: DumpTask;
  readonly #session: DumpSession;
  readonly #pagesId: number;
  readonly #copy: TracedTask;
  readonly #early: Early;
  #runs: readonly PageRun[] = [];
  #fd: Fd = -1;
  readonly #writes: { readonly result: Result; readonly runs: readonly PageRun[]; readonly offset: bigint }[] = [];

  private constructor(task: DumpTask, made: { session: DumpSession; pagesId: number; copy: TracedTask; early: Early }) {
    this.#task = task;
    this.#session = made.session;
    this.#pagesId = made.pagesId;
    this.#copy = made.copy;
    this.#early = made.early;
  }

  /** Makes the copy; undefined when there can be none, and the memory has to be saved otherwise. */
  static tryMake(task: DumpTask, session: DumpSession, pagesId: number): CopiedPages | undefined {
    const { snapshots } = session;
    const { traced, vmas } = task;
    if (snapshots?.isWanted(traced.pid) !== true || !canBeCopied(traced) || isProbed(vmas)) return undefined;
    if (vmas.some((vma) => isTracked(vma.flags))) return undefined;
    const lost = vmas.filter(isLost).map((vma) => findRuns(traced.pid, [vma]));
    const early = lost.flatMap(({ runs }) => runs);
    const earlyBytes = early.reduce((sum, { start, end }) => sum + (end - start), 0n);
    if (earlyBytes > MAX_EARLY_BYTES) return undefined;
    const fd = session.images.scratch();
    if (fd === undefined) return undefined;
    const copy = makeCopy(traced);
    if (copy === undefined) {
      session.warn(
        `process ${traced.pid}: no copy-on-write copy could be made (limits of processes or memory); memory is saved while it stands still`,
      );
      return undefined;
    }
    snapshots.keep(copy);
    copyFromOutside(traced.pid, early, { fd, offset: 0n });
    return new CopiedPages(task, {
      session,
      pagesId,
      copy,
      early: { runs: early, fd, guards: lost.flatMap(({ guards }) => guards) },
    });
  }

  get #name(): string {
    return `pages-${this.#pagesId}.img`;
  }

  /** What the copy is to write; the process runs already. */
  jobs(): Job[] {
    const { runs, guards } = findRuns(
      this.#copy.pid,
      this.#task.vmas.filter((vma) => !isLost(vma)),
    );
    const allGuards = [...this.#early.guards, ...guards].sort(byAddress);
    if (allGuards.length > 0) noteGuards(this.#task, allGuards);
    this.#runs = [...this.#early.runs, ...runs].sort(byAddress);
    this.#fd = this.#session.images.rawFile(this.#name);
    if (runs.length === 0) return [];
    const [fd] = handOver(this.#copy.leader, [this.#fd]) as [number];
    const program = new Program();
    for (const piece of this.#pieces(false)) {
      let { offset } = piece;
      for (const group of batches(piece.runs, MAX_TRANSFER)) {
        const vector = program.bytes(Buffer.alloc(group.length * IOVEC_BYTES));
        let bytes = 0n;
        group.forEach(({ start, end }, i) => {
          vector.content.writeBigUInt64LE(start, i * IOVEC_BYTES);
          vector.content.writeBigUInt64LE(end - start, i * IOVEC_BYTES + 8);
          bytes += end - start;
        });
        if (group[0]?.readable === true) {
          const result = program.call(SYS.pwritev, fd, vector, group.length, offset, 0);
          this.#writes.push({ result, runs: group, offset });
        } else copyFromOutside(this.#copy.pid, group, { fd: this.#fd, offset });
        offset += bytes;
      }
    }
    return program.entries.length === 0 ? [] : [{ thread: this.#copy.leader, program }];
  }

  /** Puts in what was saved before, writes the pagemap, and ends the copy. */
  finish(figures: PageFigures): void {
    for (const { result, runs, offset } of this.#writes) {
      const bytes = runs.reduce((sum, { start, end }) => sum + (end - start), 0n);
      if (result.errno === 0 && result.value === bytes) continue;
      if (result.errno !== 0 && result.errno !== EFAULT) throw result.entry.error();
      copyFromOutside(this.#copy.pid, runs, { fd: this.#fd, offset });
    }
    let from = 0n;
    for (const { runs, offset } of this.#pieces(true)) {
      const bytes = runs.reduce((sum, { start, end }) => sum + (end - start), 0n);
      for (let done = 0n; done < bytes; ) {
        const place = { fd: this.#early.fd, offset: from + done };
        const moved = copyFileRange(place, { fd: this.#fd, offset: offset + done }, Number(bytes - done));
        if (moved === 0) throw kernelError("copy_file_range", -5, "what was saved before is shorter than it was made");
        done += BigInt(moved);
      }
      from += bytes;
    }
    this.#session.snapshots?.end(this.#copy);
    const { parent, images } = this.#session;
    const whole = [...entries(this.#runs)];
    const before = pagesOfParent(parent, { kind: "PAGEMAP", id: this.#task.pid });
    const runs = parent === undefined ? whole : thin(this.#fd, whole, before);
    describePages(images, { pid: this.#task.pid, pagesId: this.#pagesId, runs }, figures);
  }

  /** Runs that were saved before, or all others, in stretches that follow one another in the image. */
  *#pieces(isEarly: boolean): Generator<Piece> {
    const early = new Set(this.#early.runs);
    let runs: PageRun[] = [];
    let start = 0n;
    let offset = 0n;
    for (const run of this.#runs) {
      if (early.has(run) === isEarly) {
        if (runs.length === 0) start = offset;
        runs.push(run);
      } else if (runs.length > 0) {
        yield { runs, offset: start };
        runs = [];
      }
      offset += run.end - run.start;
    }
    if (runs.length > 0) yield { runs, offset: start };
  }
}

function byAddress(a: PageRange, b: PageRange): number {
  return a.start < b.start ? -1 : 1;
}

/** Mappings with the same flags share the set of them: there are few sets, but there can be ten thousands of mappings. */
function hasOneOf(letters: readonly string[]): (flags: Vma["flags"]) => boolean {
  const known = new WeakMap<Vma["flags"], boolean>();
  return (flags) => {
    let has = known.get(flags);
    if (has === undefined) {
      has = letters.some((flag) => flags.has(flag));
      known.set(flags, has);
    }
    return has;
  };
}

const isTracked = hasOneOf(FLAGS_TRACKED);
const isLostByFlags = hasOneOf(FLAGS_LOST);

/** Whether a copy would not have the pages of a mapping. */
function isLost(vma: Vma): boolean {
  const kind = areaKind(vma);
  return kind === "vdso" || kind === "aio" || isLostByFlags(vma.flags);
}

/** Writes the memory of all copies, all at once; they are gone afterwards. */
export function saveCopies(copies: readonly CopiedPages[], figures: PageFigures): void {
  runAll(copies.flatMap((copied) => copied.jobs()));
  for (const copied of copies) copied.finish(figures);
}
