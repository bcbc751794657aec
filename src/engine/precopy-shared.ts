/**
 * Before the freeze: memory that the processes of the tree share is copied while they run (`resources/memory/shared-precopy.ts`).
 *
 * Nothing here is necessary: whatever does not work out is saved in the freeze.
 */
import { closeSync, ftruncateSync, readdirSync } from "node:fs";
import { KernelError } from "../errors.js";
import type { DumpSink } from "../images/sink.js";
import { ERRNO } from "../linux/errno.js";
import { SYS } from "../linux/syscalls.js";
import { type Tracepoint, countEvents, countOf, tracepointIds } from "../linux/perf.js";
import { readMaps } from "../linux/proc/read.js";
import {
  UFFDIO_REGISTER_MODE_WP,
  UFFD_FEATURE_PAGEFAULT_FLAG_WP,
  UFFD_FEATURE_WP_ASYNC,
  UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
  UFFD_FEATURE_WP_UNPOPULATED,
  UFFD_USER_MODE_ONLY,
  uffdioApi,
  uffdioRegister,
} from "../linux/userfaultfd.js";
import type { DumpTask } from "../resources/part.js";
import { bytesOf, hasOwnRequests } from "../resources/memory/precopy.js";
import {
  Gone,
  type SharedCopy,
  type SharedMapping,
  type SharedObject,
  type TakenShared,
  closeShared,
  copyShared,
  copySharedAgain,
  doubtOf,
  findSharedObjects,
  inCopy,
  isGone,
  mappedOutside,
  mappingsOf,
  mappingsAreMarked,
  markAll,
  mayShare,
  planShared,
  samePages,
  writtenIn,
  writtenTo,
} from "../resources/memory/shared-precopy.js";
import { arch } from "../target/arch.js";
import { codeRanges } from "../target/code-ranges.js";
import { type FrozenTree, freezeTree, releaseTree } from "../target/freeze.js";
import { makeInside } from "../target/hand-over.js";
import { attachStub, isInsideStub } from "../target/stub-attach.js";
import { faultPoint } from "./fault.js";
import type { Logger } from "./log.js";
import type { DumpOptions } from "./options.js";
import { letGo, runningTree } from "./precopy.js";

/** Less is copied in the freeze as fast as it takes to get ready. */
const WORTH_BYTES = 16 << 20;
/** Marking so much takes the kernel about two milliseconds, for which a process is stopped at a time. */
const MARK_BYTES = 256n << 20n;
/** So many bytes of page tables are looked through in the freeze at most: 3 ms for each GiB. */
const MOST_MAPPED_BYTES = 64n << 30n;
/** Each thread costs a descriptor for each of the tracepoints. */
const MOST_THREADS = 256;
const MOST_PROCESSES = 64;
const MAX_ROUNDS = 4;
/** So much is copied in the freeze in a millisecond or two. */
const FEW_BYTES = 2 << 20;
const LESS = 0.7;
const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;

const FEATURES = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;

/** What makes a way to an object that is not tracked: uapi/linux/sched.h and mman.h have the numbers. */
const WAYS: readonly Tracepoint[] = [
  { name: "task/task_newtask", filter: "!(clone_flags & 256)" }, // without CLONE_VM
  { name: "syscalls/sys_enter_mremap", filter: "old_len == 0 || flags & 4" }, // MREMAP_DONTUNMAP
  // An int in a register: above it there may be anything.
  { name: "syscalls/sys_enter_madvise", filter: "behavior == 9 || behavior > 255 || behavior < 0" }, // MADV_REMOVE
  { name: "syscalls/sys_enter_process_madvise", filter: "behavior == 9 || behavior > 255 || behavior < 0" },
];

/** Objects that were copied ahead. */
export class SharedCopies {
  readonly #log: Logger;
  readonly #uffds: number[] = [];
  readonly #counters = new Map<number, number[]>();
  readonly #copies = new Map<string, SharedCopy>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Whether mappings of a process are watched by us. */
  isTracked(pid: number): boolean {
    return this.#counters.has(pid);
  }

  keep(pid: number, kept: { readonly uffd: number; readonly counters: readonly number[] }): void {
    this.#uffds.push(kept.uffd);
    this.#counters.set(pid, [...(this.#counters.get(pid) ?? []), ...kept.counters]);
  }

  put(copy: SharedCopy): void {
    this.#copies.set(copy.key, copy);
  }

  /** In the freeze: the copy of an object and what was written since; undefined when it is not to be believed, or there is none. */
  take(key: string, tasks: readonly DumpTask[]): TakenShared | undefined {
    const copy = this.#copies.get(key);
    if (copy === undefined) return undefined;
    const doubt = this.#wayOf(copy) ?? doubtOf(copy, tasks);
    if (doubt === undefined) {
      this.#log.debug(`shared memory (${key}) is taken as it was copied ahead, but for what was written since`);
      return { copy, written: writtenTo(copy) };
    }
    this.#log.info(`shared memory (${key}) is saved anew, not as it was copied ahead: ${doubt}`);
    this.#copies.delete(key);
    ftruncateSync(copy.copied.fd, 0);
    closeShared(copy);
    return undefined;
  }

  #wayOf({ mappings }: SharedCopy): string | undefined {
    for (const { pid } of mappings) {
      const count = this.#counters.get(pid)?.some((fd) => countOf(fd) !== 0n) ?? true;
      if (count) return `process ${pid} has forked, doubled a mapping or taken pages out`;
    }
    return undefined;
  }

  /** Copies once more what has been written since, right before the freeze. */
  lastRound(options: DumpOptions): void {
    for (const copy of this.#copies.values()) {
      try {
        if (bytesOf(writtenTo(copy)) >= FEW_BYTES) this.put(copyRound(copy, options));
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Ends the tracking, which takes some milliseconds for each GiB: after the tree has been let go. */
  close(): void {
    for (const fd of [...this.#uffds.splice(0), ...[...this.#counters.values()].flat()]) closeSync(fd);
    this.#counters.clear();
    for (const copy of this.#copies.values()) closeShared(copy);
    this.#copies.clear();
  }
}

/** Copies the larger objects that the tree shares. The tree runs before and afterwards. */
export function copySharedAhead(options: DumpOptions, { log, sink }: { log: Logger; sink: DumpSink }): SharedCopies {
  const copies = new SharedCopies(log);
  if (options.preCopy === "never") return copies;
  const pids = runningTree(options.tree);
  const least = options.preCopy === "always" ? 1 : WORTH_BYTES;
  if (!mayShare(pids, least)) return copies;
  const objects = worthwhile(pids, least);
  if (objects.length === 0 || !mappingsAreMarked()) return copies;
  try {
    copyObjects(objects, copies, { options, log, sink });
  } catch (error) {
    copies.close();
    if (!isGone(error)) throw error;
    log.debug(`shared memory is not copied ahead: ${error instanceof Error ? error.message : String(error)}`);
  }
  return copies;
}

/** Objects that only processes map in which writes can be noticed; those without pages of ours in the way. */
function worthwhile(pids: readonly number[], least: number): SharedObject[] {
  const objects = findSharedObjects(pids, least).filter(({ mappings }) => {
    const mappers = new Set(mappings.map(({ pid }) => pid));
    const bytes = mappings.reduce((sum, { start, end }) => sum + (end - start), 0n);
    return mappers.size <= MOST_PROCESSES && bytes <= MOST_MAPPED_BYTES && ![...mappers].some(mayWriteUnseen);
  });
  if (objects.length === 0) return [];
  const others = readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid && !pids.includes(pid));
  const outside = mappedOutside(others, new Set(objects.map(({ key }) => key)));
  return objects.filter(({ key }) => !outside.has(key));
}

/** By requests that go on by themselves. */
function mayWriteUnseen(pid: number): boolean {
  try {
    return hasOwnRequests(pid, readMaps(pid));
  } catch {
    return true; // it ended
  }
}

interface Tools {
  readonly options: DumpOptions;
  readonly log: Logger;
  readonly sink: DumpSink;
}

function copyObjects(objects: readonly SharedObject[], copies: SharedCopies, { options, log, sink }: Tools): void {
  const ids = tracepointIds(WAYS);
  const mappers = new Set(objects.flatMap(({ mappings }) => mappings.map(({ pid }) => pid)));
  const tracked = [...mappers].map((pid) => startTracking(pid, { objects, copies, options, ids }));
  faultPoint("precopy-shared-tracked");
  const plans: { readonly plan: SharedCopy; readonly all: readonly SharedMapping[] }[] = [];
  for (const object of objects) {
    if (!object.mappings.every(({ pid }) => copies.isTracked(pid))) continue;
    const fd = sink.scratch();
    if (fd === undefined) return;
    const all = tracked.flatMap((of) => of.get(object.key) ?? []);
    const plan = planShared({ ...object, mappings: all.filter(({ isWritable }) => isWritable) }, fd);
    if (plan === undefined) continue;
    copies.put(plan);
    plans.push({ plan, all });
  }
  // From here on everything shows. Whoever came in before is to be seen now.
  const still = worthwhile(runningTree(options.tree), 1);
  for (const { plan, all } of plans) {
    const started = performance.now();
    const isWhole = samePages(still.find(({ key }) => key === plan.key)?.mappings ?? [], all);
    if (isWhole) copyObject(plan, copies, options);
    const what = isWhole ? "copied ahead" : "not copied ahead, as its mappings change";
    log.debug(`${what}: shared memory (${plan.key}), ${Math.round(performance.now() - started)} ms`);
  }
}

function copyObject(plan: SharedCopy, copies: SharedCopies, options: DumpOptions): void {
  for (const mapping of plan.mappings) markWhole(mapping, options);
  let copy = copyShared(plan);
  copies.put(copy);
  faultPoint("precopy-shared-copied");
  let before = Number.POSITIVE_INFINITY;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const written = bytesOf(writtenTo(copy));
    if (written < FEW_BYTES || written > before * LESS) break;
    before = written;
    copy = copyRound(copy, options);
    copies.put(copy);
  }
}

/** Everything that was written since, as each mapping says of itself, while its process stands still. */
function copyRound(copy: SharedCopy, options: DumpOptions): SharedCopy {
  const written = copy.mappings.flatMap((mapping) => whileStopped(mapping.pid, options, () => writtenIn(mapping, true)));
  return copySharedAgain(copy, inCopy(copy, written));
}

/** Part by part: many short stops instead of a long one. */
function markWhole({ pid, start, end }: SharedMapping, options: DumpOptions): void {
  for (let at = start; at < end; at += MARK_BYTES) {
    const part = { start: at, end: end - at < MARK_BYTES ? end : at + MARK_BYTES };
    whileStopped(pid, options, () => markAll(pid, part));
  }
}

function whileStopped<T>(pid: number, { timeoutS }: DumpOptions, work: () => T): T {
  const tree = stop(pid, timeoutS);
  try {
    return work();
  } finally {
    releaseTree(tree);
  }
}

function stop(pid: number, timeoutS: number): FrozenTree {
  try {
    return freezeTree(pid, { timeoutMs: timeoutS * 1000, isAlone: true });
  } catch (cause) {
    throw new Gone(`process ${pid} does not stop`, { cause }); // the dump itself will say so if it matters
  }
}

interface ToTrack {
  readonly objects: readonly SharedObject[];
  readonly copies: SharedCopies;
  readonly options: DumpOptions;
  readonly ids: readonly number[];
}

/** Mappings of a process, by the key of the object. */
type Mapped = ReadonlyMap<string, readonly (SharedMapping & { readonly isWritable: boolean })[]>;
const NOTHING: Mapped = new Map();

/** Stops a process alone, has writes to the objects noticed, and lets it go on; returns what it maps of them. */
function startTracking(pid: number, { objects, copies, options, ids }: ToTrack): Mapped {
  const tree = stop(pid, options.timeoutS);
  try {
    const [task] = tree.tasks;
    if (task === undefined || task.hasLostLeader || task.threads.length > MOST_THREADS || arch.isCompat(task.leader.regs)) return NOTHING;
    const maps = readMaps(pid);
    const code = codeRanges(pid, maps);
    if (isInsideStub(task, code)) return NOTHING;
    const counters: number[] = [];
    try {
      for (const { tid } of task.threads)
        ids.forEach((id, i) => counters.push(countEvents(tid, { id, filter: (WAYS[i] as Tracepoint).filter })));
      attachStub(task, code);
      faultPoint("precopy-shared-stub");
      const uffd = makeInside(task.leader, SYS.userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
      if (uffd === undefined) return NOTHING;
      copies.keep(pid, { uffd, counters: counters.splice(0) });
      uffdioApi(uffd, FEATURES);
      return new Map(objects.map(({ key }) => [key, mappingsOf(key, { pid, maps }).map((one) => register(uffd, one))]));
    } finally {
      for (const fd of counters) closeSync(fd);
    }
  } finally {
    letGo(tree);
  }
}

/** One that can never be written through is not permitted, and need not be. */
function register(uffd: number, mapping: SharedMapping): SharedMapping & { readonly isWritable: boolean } {
  const { start, end } = mapping;
  try {
    uffdioRegister(uffd, { address: start, sizeBytes: end - start }, UFFDIO_REGISTER_MODE_WP);
    return { ...mapping, isWritable: true };
  } catch (error) {
    if (error instanceof KernelError && error.errno === ERRNO.EPERM) return { ...mapping, isWritable: false };
    throw error;
  }
}
