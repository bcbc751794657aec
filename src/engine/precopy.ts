/**
 * Before the freeze: processes with much memory are stopped one by one for a moment so that writes are tracked from then on,
 * and most of their memory is copied while they run (`resources/memory/precopy.ts`).
 *
 * Nothing here is necessary: whatever does not work out is left to the ordinary way.
 */
import { closeSync, readFileSync, readdirSync } from "node:fs";
import type { DumpSink } from "../images/sink.js";
import type { DirectorySource } from "../images/source.js";
import { readMaps } from "../linux/proc/read.js";
import { equalPages, pagesOfParent } from "../resources/memory/increment.js";
import type { PageRange } from "../resources/memory/page-runs.js";
import {
  type PreCopied,
  type Tracked,
  copyAgain,
  copyAhead,
  isWorthPreCopy,
  protect,
  track,
  writtenBytes,
} from "../resources/memory/precopy.js";
import { codeRanges } from "../target/code-ranges.js";
import { type FrozenTree, freezeTree, releaseTree } from "../target/freeze.js";
import { closeStrays } from "../target/hand-over.js";
import { attachStub, detachStub, isInsideStub } from "../target/stub-attach.js";
import { faultPoint } from "./fault.js";
import type { Logger } from "./log.js";
import type { DumpOptions } from "./options.js";

const MAX_ROUNDS = 4;
/** So much is copied in the freeze in a millisecond or two. */
const FEW_BYTES = 2 << 20;
/** Another round is worth it if at most this part of what was written during the one before is left. */
const LESS = 0.7;

/** What has been copied ahead. */
export class PreCopies {
  readonly byPid = new Map<number, PreCopied>();
  /** Processes whose mappings have no NUMA policies. */
  withoutPolicies: ReadonlySet<number> = new Set();
  readonly #uffds: number[] = [];

  /** Takes over a userfaultfd: while it is open, its process is tracked. */
  keep({ uffd }: Tracked): void {
    this.#uffds.push(uffd);
  }

  /** Ends the tracking, which takes some milliseconds for each GiB: after the tree has been let go. */
  close(): void {
    for (const fd of this.#uffds.splice(0)) closeSync(fd);
  }
}

export interface PreCopyTools {
  readonly log: Logger;
  readonly sink: DumpSink;
  /** The images of the dump before. */
  readonly parent: DirectorySource | undefined;
}

/** Copies memory of the tree ahead, as far as it is worth it. The tree runs before and afterwards. */
export function preCopyTree(options: DumpOptions, tools: PreCopyTools): PreCopies {
  const copies = new PreCopies();
  if (options.preCopy === "never") return copies;
  try {
    copyInto(copies, options, tools);
    return copies;
  } catch (error) {
    copies.close();
    throw error;
  }
}

function copyInto(copies: PreCopies, options: DumpOptions, { log, sink, parent }: PreCopyTools): void {
  for (const pid of runningTree(options.tree)) {
    if (!isWorthPreCopy(pid, options.preCopy === "always")) continue;
    const fd = sink.scratch();
    if (fd === undefined) {
      log.info("memory is not copied ahead: the file system of the images directory has no files without names (O_TMPFILE)");
      return;
    }
    const tracked = startTracking(pid, options, log);
    if (tracked === undefined) continue;
    copies.keep(tracked);
    faultPoint("precopy-tracked");
    const started = performance.now();
    const copied = again(tracked, copyAhead(tracked, fd, progressOf(tracked, options)), options);
    copies.byPid.set(pid, withEqual(copied, parent));
    log.debug(`copied ahead: process ${pid}, ${Math.round(performance.now() - started)} ms`);
    faultPoint("precopy-copied");
  }
}

/** Compares what was copied with the images of the dump before while there is time. */
function withEqual(copied: PreCopied, parent: DirectorySource | undefined): PreCopied {
  if (parent === undefined) return copied;
  const before = pagesOfParent(parent, { kind: "PAGEMAP", id: copied.pid });
  return { ...copied, equal: equalPages(copied.fd, copied.layout, before) };
}

/** What has been written meanwhile is copied again, as long as it becomes less. */
function again(tracked: Tracked, first: PreCopied, options: DumpOptions): PreCopied {
  let copied = first;
  let before = Number.POSITIVE_INFINITY;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const written = writtenBytes(tracked);
    if (written < FEW_BYTES || written > before * LESS) break;
    before = written;
    const tree = stop(tracked.pid, options);
    if (tree === undefined) break;
    let ranges: readonly PageRange[];
    try {
      ranges = protect(tracked.pid, tracked.mappings, true);
    } finally {
      releaseTree(tree);
    }
    copied = copyAgain(copied, ranges);
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

function progressOf({ ranges }: Tracked, { progress }: DumpOptions): ((bytes: number) => void) | undefined {
  if (progress === undefined) return undefined;
  const totalBytes = Number(ranges.reduce((sum, { start, end }) => sum + (end - start), 0n));
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
function startTracking(pid: number, options: DumpOptions, log: Logger): Tracked | undefined {
  const started = performance.now();
  let tree: FrozenTree | undefined;
  let tracked: Tracked | undefined;
  try {
    tree = freezeTree(pid, { timeoutMs: options.timeoutS * 1000, isAlone: true });
    const [task] = tree.tasks;
    if (task === undefined) return undefined;
    const all = readMaps(pid);
    const code = codeRanges(pid, all);
    if (isInsideStub(task, code)) return undefined;
    const maps = all.filter((vma) => !code.leftBehind.some((left) => vma.start >= left.start && vma.end <= left.end));
    attachStub(task, code);
    faultPoint("precopy-stub");
    tracked = track(task, maps);
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

function letGo(tree: FrozenTree): void {
  try {
    for (const task of tree.tasks) {
      closeStrays(task);
      detachStub(task);
    }
  } finally {
    releaseTree(tree);
  }
}
