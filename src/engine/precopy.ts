/**
 * Before the freeze: processes with much memory are stopped one by one for a moment so that writes are tracked from then on,
 * and most of their memory is copied while they run (`resources/memory/precopy.ts`).
 *
 * Nothing here is necessary: whatever does not work out is left to the ordinary way.
 */
import { closeSync, ftruncateSync, readFileSync, readdirSync } from "node:fs";
import { KernelError } from "../errors.js";
import type { DumpSink } from "../images/sink.js";
import type { DirectorySource } from "../images/source.js";
import { ERRNO } from "../linux/errno.js";
import { readMaps, readStat } from "../linux/proc/read.js";
import { UnprotectedAhead } from "../linux/unprotected.js";
import { readMappings } from "../linux/vma-flags.js";
import { MountTree } from "../resources/files/hidden.js";
import { equalPages, pagesOfParent } from "../resources/memory/increment.js";
import type { Irmap } from "../resources/watches/places.js";
import type { FilesAhead } from "../resources/files/carry-ahead.js";
import {
  type PreCopied,
  type Tracked as TrackedMemory,
  bytesOf,
  copyProtected,
  isWorthPreCopy,
  partsToProtect,
  planCopy,
  planIncrement,
  protect,
  track,
  trackMore,
  writtenBytes,
} from "../resources/memory/precopy.js";
import { codeRanges } from "../target/code-ranges.js";
import { type FrozenTree, freezeTree, releaseTree } from "../target/freeze.js";
import { closeStrays } from "../target/hand-over.js";
import { attachStub, detachStub, isInsideStub } from "../target/stub-attach.js";
import { faultPoint } from "./fault.js";
import type { Logger } from "./log.js";
import type { DumpOptions } from "./options.js";
import { isForkShorter } from "./snapshot.js";

const MAX_ROUNDS = 4;
/** Looking for what was written again takes the kernel about a millisecond in so much memory. */
const BYTES_PER_MS = 256n << 20n;
/** Protecting all pages takes longer: 2 to 4 ms for 256 MiB. */
const FIRST_BYTES_PER_MS = 96n << 20n;
/** So much is copied in the freeze in a millisecond or two. */
const FEW_BYTES = 2 << 20;
/** Less is copied in the freeze in less time than it takes to stop the process once more. */
const WORTH_LAST_ROUND_BYTES = 256 << 10;
/** Of more, part by part is copied before. */
const MUCH_FOR_LAST_ROUND_BYTES = 4 << 20;
/** Another round is worth it if at most this part of what was written during the one before is left. */
const LESS = 0.7;

/** A process in which writes are noticed. */
interface Tracked extends TrackedMemory {
  /** How long it takes to stop all its threads, in milliseconds. */
  readonly stopMs: number;
  /** When it was started: another process with its pid is another one. */
  readonly startTime: bigint;
}

/** What has been copied ahead; and, where a tree is dumped again and again, what is tracked in between. */
export class PreCopies {
  readonly byPid = new Map<number, PreCopied>();
  /** Processes whose mappings have no NUMA policies. */
  withoutPolicies: ReadonlySet<number> = new Set();
  /** Contents of files that are to be carried. */
  files: FilesAhead = new Map();
  /** Names of watched files that had to be searched for. */
  irmap: Irmap = new Map();
  /** The tree is told when somebody opens its files. */
  hearsOfLooks = false;
  #mounts: MountTree | undefined;

  /** The mounts that paths end on, as they were when they were read. */
  get mounts(): MountTree {
    this.#mounts ??= new MountTree();
    return this.#mounts;
  }

  readMounts(): void {
    this.#mounts = new MountTree();
  }

  readonly #tracked = new Map<number, Tracked>();

  /** Takes over a userfaultfd: while it is open, its process is tracked. */
  keep(tracked: Tracked): void {
    this.#tracked.set(tracked.pid, tracked);
  }

  /** The process, if it was tracked since the dump before. */
  trackedSince(pid: number): Tracked | undefined {
    const tracked = this.#tracked.get(pid);
    if (tracked === undefined || startTimeOf(pid) === tracked.startTime) return tracked;
    this.drop(pid);
    return undefined;
  }

  /** Copies once more what has been written since, right before the freeze. */
  lastRound(options: DumpOptions): void {
    for (const [pid, copied] of this.byPid) {
      const tracked = this.#tracked.get(pid);
      if (tracked === undefined) continue;
      const round = whileItLives(tracked, () => lastRoundOf(tracked, copied, options));
      if (round === undefined) this.drop(pid);
      else this.byPid.set(pid, round);
    }
  }

  /** Gets a look ready at what will have been written since the last copy, if that is worth it or `isWanted`. */
  lookAhead(isWanted: boolean): UnprotectedAhead | undefined {
    return UnprotectedAhead.prepare(
      [...this.byPid.keys()].flatMap((pid) => this.#tracked.get(pid) ?? []),
      isWanted,
    );
  }

  /** From now on what is written is written after this dump. The tree stands still, and all its memory is saved. */
  protectAgain(ahead: UnprotectedAhead | undefined): void {
    for (const pid of this.byPid.keys()) {
      const tracked = this.#tracked.get(pid);
      if (tracked !== undefined) whileItLives(tracked, () => protect(pid, tracked.mappings, { writtenOnly: true, ahead }));
    }
  }

  /** Forgets what has been copied, but not what is tracked; `living`: the processes that there still are. */
  nextRound(living: readonly number[]): void {
    this.byPid.clear();
    for (const pid of [...this.#tracked.keys()]) if (!living.includes(pid)) this.drop(pid);
  }

  /** Ends the tracking of one process, which is to be saved otherwise. */
  drop(pid: number): void {
    const uffd = this.#tracked.get(pid)?.uffd;
    if (this.#tracked.delete(pid) && uffd !== undefined) closeSync(uffd);
    this.byPid.delete(pid);
  }

  /** Ends the tracking, which takes some milliseconds for each GiB: after the tree has been let go. */
  close(): void {
    for (const pid of [...this.#tracked.keys()]) this.drop(pid);
  }
}

/** undefined: it is gone, or a zombie. */
export function startTimeOf(pid: number): bigint | undefined {
  try {
    const { startTimeTicks, state } = readStat(pid);
    return state === "Z" || state === "X" ? undefined : startTimeTicks;
  } catch {
    return undefined;
  }
}

/** undefined: the process has ended meanwhile. */
function whileItLives<T>({ pid, startTime }: { pid: number; startTime: bigint | undefined }, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    // One that is ending has given up its memory a moment before it is a zombie.
    if (error instanceof KernelError && error.errno === ERRNO.ESRCH) return undefined;
    if (startTime !== undefined && startTimeOf(pid) === startTime) throw error;
    return undefined;
  }
}

function lastRoundOf(tracked: Tracked, copied: PreCopied, options: DumpOptions): PreCopied {
  const written = writtenBytes(tracked);
  if (written < WORTH_LAST_ROUND_BYTES) return copied;
  return copyAtOnce(tracked, written < MUCH_FOR_LAST_ROUND_BYTES ? copied : copyRound(tracked, copied, options, true), options);
}

/**
 * All parts in one stop, which takes about as long as the look at the page tables in the freeze. Part by part the first is written to
 * again before the last is copied.
 */
function copyAtOnce(tracked: Tracked, copied: PreCopied, options: DumpOptions): PreCopied {
  const { pid, mappings } = tracked;
  using ahead = UnprotectedAhead.prepare([tracked]);
  if (ahead === undefined) return copyRound(tracked, copied, options, true);
  const tree = stop(pid, options);
  if (tree === undefined) return copied;
  let ranges: ReturnType<typeof protect>;
  try {
    ahead.begin();
    ranges = protect(pid, mappings, { writtenOnly: true, ahead });
  } finally {
    releaseTree(tree);
  }
  return copyProtected(copied, ranges);
}

export interface PreCopyTools {
  readonly log: Logger;
  readonly sink: DumpSink;
  /** The images of the dump before. */
  readonly parent: DirectorySource | undefined;
  /** Fault injection, but in a rehearsal. */
  readonly faultPoint?: (point: string) => void;
}

/** Copies memory of the tree ahead, as far as it is worth it. The tree runs before and afterwards. */
export function preCopyTree(options: DumpOptions, tools: PreCopyTools, copies = new PreCopies()): PreCopies {
  if (options.preCopy === "never") return copies;
  copies.nextRound(runningTree(options.tree));
  try {
    copyInto(copies, options, tools);
    return copies;
  } catch (error) {
    copies.close();
    throw error;
  }
}

function copyInto(copies: PreCopies, options: DumpOptions, tools: PreCopyTools): void {
  const { log, sink } = tools;
  for (const pid of runningTree(options.tree)) {
    if (!isWorthPreCopy(pid, options.preCopy === "always")) {
      copies.drop(pid);
      continue;
    }
    const fd = sink.scratch();
    if (fd === undefined) {
      log.info("memory is not copied ahead: the file system of the images directory has no files without names (O_TMPFILE)");
      return;
    }
    const started = performance.now();
    const one = { pid, fd, options, tools };
    const life = { pid, startTime: startTimeOf(pid) };
    const copied = whileItLives(life, () => copyIncrement(copies, one) ?? copyWhole(copies, one));
    if (copied === undefined) {
      copies.drop(pid);
      ftruncateSync(fd, 0);
      continue;
    }
    if (isForkShorter(options, pid, copied.leftBytes)) {
      log.info(`process ${pid} writes faster than its memory can be copied ahead`);
      copies.drop(pid);
      ftruncateSync(fd, 0);
      continue;
    }
    copies.byPid.set(pid, copied.memory);
    log.debug(`copied ahead: process ${pid}, ${Math.round(performance.now() - started)} ms`);
    (tools.faultPoint ?? faultPoint)("precopy-copied");
  }
}

interface OneProcess {
  readonly pid: number;
  readonly fd: number;
  readonly options: DumpOptions;
  readonly tools: PreCopyTools;
}

/** The copy, and how much of it has been written since. */
interface Ahead {
  readonly memory: PreCopied;
  readonly leftBytes: number;
}

function copyWhole(copies: PreCopies, { pid, fd, options, tools }: OneProcess): Ahead | undefined {
  const tracked = startTracking(pid, options, tools);
  if (tracked === undefined) return undefined;
  copies.keep(tracked);
  (tools.faultPoint ?? faultPoint)("precopy-tracked");
  const copied = copyInRounds(tracked, planCopy(tracked, fd), { options, isIncrement: false });
  return { memory: withEqual(copied, tools.parent), leftBytes: writtenBytes(tracked) };
}

/** Copies what was written since the dump before, and nothing else; undefined when the process was not tracked since. */
function copyIncrement(copies: PreCopies, { pid, fd, options, tools }: OneProcess): Ahead | undefined {
  const { parent, log } = tools;
  const before = copies.trackedSince(pid);
  if (before === undefined || parent === undefined) return undefined;
  try {
    const { tracked, lasting } = trackStopped(before, options);
    copies.keep({ ...before, ...tracked });
    const inParent = pagesOfParent(parent, { kind: "PAGEMAP", id: pid });
    const plan = planIncrement(tracked, fd, { lasting, inParent });
    const memory = copyInRounds({ ...before, ...tracked }, plan, { options, isIncrement: true });
    log.debug(`process ${pid}: ${bytesOf(memory.equal ?? [])} bytes were not written since the dump before`);
    return { memory, leftBytes: writtenBytes(tracked) };
  } catch (error) {
    log.debug(`what process ${pid} has written is not known: ${error instanceof Error ? error.message : String(error)}`);
    copies.drop(pid); // it does not stop, or has become another program; the dump itself will say so if it matters
    return undefined;
  }
}

/** Mappings are only registered while they cannot change: to register a part of one would make two of it. */
function trackStopped(before: Tracked, options: DumpOptions): ReturnType<typeof trackMore> {
  const tree = freezeTree(before.pid, { timeoutMs: options.timeoutS * 1000, isAlone: true });
  try {
    return trackMore(before, readMappings(before.pid));
  } finally {
    releaseTree(tree);
  }
}

/** Compares what was copied with the images of the dump before while there is time. */
function withEqual(copied: PreCopied, parent: DirectorySource | undefined): PreCopied {
  if (parent === undefined) return copied;
  const before = pagesOfParent(parent, { kind: "PAGEMAP", id: copied.pid });
  return { ...copied, equal: equalPages(copied.fd, copied.layout, before) };
}

/** Everything is copied once, and what has been written meanwhile again, as long as it becomes less. */
function copyInRounds(tracked: Tracked, plan: PreCopied, how: { options: DumpOptions; isIncrement: boolean }): PreCopied {
  const { options, isIncrement } = how;
  let copied = copyRound(tracked, plan, options, isIncrement);
  let before = Number.POSITIVE_INFINITY;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const written = writtenBytes(tracked);
    if (written < FEW_BYTES || written > before * LESS) break;
    before = written;
    copied = copyRound(tracked, copied, options, true);
  }
  return copied;
}

/** Protects and copies part by part: many short stops instead of a long one, with the copying in between. */
function copyRound(tracked: Tracked, plan: PreCopied, options: DumpOptions, writtenOnly: boolean): PreCopied {
  const { pid, mappings } = tracked;
  const progress = writtenOnly ? undefined : progressOf(plan, options);
  const perMs = writtenOnly ? BYTES_PER_MS : FIRST_BYTES_PER_MS;
  let copied = plan;
  let doneBytes = 0;
  for (const part of partsToProtect(mappings, plan.layout, perMs * BigInt(Math.ceil(tracked.stopMs)))) {
    const tree = stop(pid, options);
    if (tree === undefined) break;
    let ranges: ReturnType<typeof protect>;
    try {
      ranges = protect(pid, part, { writtenOnly });
    } finally {
      releaseTree(tree);
    }
    copied = copyProtected(copied, ranges, progress && ((bytes) => progress(doneBytes + bytes)));
    doneBytes += bytesOf(ranges);
  }
  return copied;
}

/** Pages are only protected while their process stands still: see the head of `resources/memory/precopy.ts`. */
function stop(pid: number, { timeoutS }: DumpOptions): FrozenTree | undefined {
  try {
    return freezeTree(pid, { timeoutMs: timeoutS * 1000, isAlone: true });
  } catch {
    return undefined;
  }
}

function progressOf({ layout }: PreCopied, { progress }: DumpOptions): ((bytes: number) => void) | undefined {
  if (progress === undefined) return undefined;
  const totalBytes = bytesOf(layout);
  return (doneBytes) => progress({ doing: "copying memory", doneBytes, totalBytes });
}

/** The processes of a tree that runs, as far as they can be seen; they come and go. */
export function runningTree(root: number): number[] {
  const found = [root];
  for (const pid of found) {
    for (const child of childrenOf(pid)) if (!found.includes(child)) found.push(child);
  }
  return found;
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
      const text = readFileSync(`/proc/${pid}/task/${tid}/children`, "latin1").trim();
      return text === "" ? [] : text.split(" ").map(Number);
    });
  } catch {
    return [];
  }
}

/** Stops process `pid` alone, protects its memory, and lets it go on. */
function startTracking(pid: number, options: DumpOptions, tools: PreCopyTools): Tracked | undefined {
  const { log } = tools;
  const started = performance.now();
  let tree: FrozenTree | undefined;
  let tracked: Tracked | undefined;
  try {
    tree = freezeTree(pid, { timeoutMs: options.timeoutS * 1000, isAlone: true });
    const stopMs = performance.now() - started;
    const [task] = tree.tasks;
    if (task === undefined) return undefined;
    const all = readMaps(pid);
    const code = codeRanges(pid, all);
    if (isInsideStub(task, code)) return undefined;
    const maps = all.filter((vma) => !code.leftBehind.some((left) => vma.start >= left.start && vma.end <= left.end));
    attachStub(task, code);
    (tools.faultPoint ?? faultPoint)("precopy-stub");
    const made = track(task, maps);
    const startTime = startTimeOf(pid);
    if (made !== undefined && startTime !== undefined) tracked = { ...made, stopMs, startTime };
    else if (made !== undefined) closeSync(made.uffd);
    return tracked;
  } catch (error) {
    // The dump itself will say so if it matters.
    log.debug(`memory of process ${pid} is not copied ahead: ${error instanceof Error ? error.message : String(error)}`);
    if (tracked !== undefined) closeSync(tracked.uffd);
    return undefined;
  } finally {
    if (tree !== undefined) letGo(tree);
    log.debug(`process ${pid} stood still for ${Math.round((performance.now() - started) * 1000)} us to be tracked`);
  }
}

export function letGo(tree: FrozenTree): void {
  try {
    for (const task of tree.tasks) {
      closeStrays(task);
      detachStub(task);
    }
  } finally {
    releaseTree(tree);
  }
}
