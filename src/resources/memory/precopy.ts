/**
 * Pre-copy: memory is copied while its process runs, and only what was written meanwhile is copied while it stands still.
 *
 * Tracked by  userfaultfd(2) in WP_ASYNC mode, made inside the process and taken over; PAGEMAP_SCAN with WP_MATCHING
 * Copied by   process_vm_readv(2), from outside; pread(2) on /proc/PID/mem where pages are shared with relatives
 *
 * Protection is set while the process stands still, part by part in many short stops: a thread that stands still has no
 * system call under way, so no device writes into pages that were protected behind its back (O_DIRECT). Processes with asynchronous I/O, which goes
 * on while they stand still, are left to the ordinary way. Whatever is not certainly unchanged counts as written: mappings
 * made later, moved or forked, and pages that were not there.
 *
 * The kernel lifts the protection by itself when our descriptor of the userfaultfd is closed, in whatever way.
 */
import { closeSync, ftruncateSync, readFileSync } from "node:fs";
import { openSync, readdirSync, readlinkSync } from "../../linux/named-files.js";
import { KernelError } from "../../errors.js";
import type { MemoryRange } from "../../linux/memory.js";
import { UIO_MAXIOV } from "../../linux/memory.js";
import {
  PAGE_IS_PFNZERO,
  PAGE_IS_PRESENT,
  PAGE_IS_SWAPPED,
  PAGE_IS_WRITTEN,
  PM_SCAN_WP_MATCHING,
  pagemapScanRanges,
  unprotectedStretches,
} from "../../linux/pagemap.js";
import type { UnprotectedAhead } from "../../linux/unprotected.js";
import { readMaps, readSharedAnonymousBytes } from "../../linux/proc/read.js";
import { WriteBehind, isTooLargeForCache } from "../../images/page-cache.js";
import type { Vma } from "../../linux/proc/maps.js";
import { SYS } from "../../linux/syscalls.js";
import {
  UFFDIO_REGISTER_MODE_WP,
  UFFD_FEATURE_PAGEFAULT_FLAG_WP,
  UFFD_FEATURE_WP_ASYNC,
  UFFD_FEATURE_WP_UNPOPULATED,
  UFFD_USER_MODE_ONLY,
  uffdioApi,
  uffdioRegister,
} from "../../linux/userfaultfd.js";
import { makeInside } from "../../target/hand-over.js";
import type { TracedTask } from "../../target/thread.js";
import { TASK_END, areaKind } from "./area.js";
import { COPY_CHUNK_BYTES, type CopyJob, MemoryCopier, type Placement, type PreparedCopy } from "./copy-lanes.js";
import { copySparse } from "./copy-sparse.js";
import { difference, intersection, union } from "./page-ranges.js";
import { type PageRange, findRuns, hasOwnPages } from "./page-runs.js";

/** Below this much private memory the second stop costs more than the copying. */
const WORTH_BYTES = 48 << 20;
/** Smaller mappings are not worth a call each. */
const SMALLEST_MAPPING_BYTES = 256n << 10n;
const MAX_MAPPINGS = 4096;
/** At most this part of all memory, and in any case so much, is given a place though it is not there. */
const RESERVED_PART = 50;
const LEAST_RESERVE_BYTES = 8 << 20;
/** Batches between two reports of progress; those of the next step are made ready while one is copied. */
const STEP_BATCHES = 64;
const PAGE = 4096n;
const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;

/** Pages [start, end) whose bytes have a place from `offset` of the copy on. */
export interface PlacedRange extends PageRange {
  readonly offset: bigint;
}

/** Memory of one process that has been copied ahead. */
export interface PreCopied {
  readonly pid: number;
  /** The copy, with a place for every page that was there, in the order of a pages image; pages that were not copied are holes. */
  readonly fd: number;
  /** All places, ascending. */
  readonly layout: readonly PlacedRange[];
  /** Pages of the layout that were never there: the copy has zeros for them. */
  readonly reserved: readonly PageRange[];
  /** Of the copy: what is equal in the images of the dump before; undefined when there are none. */
  readonly equal?: readonly PageRange[];
  /** What has been copied, ascending. */
  readonly copied: readonly PageRange[];
  /** It shares pages with relatives: see {@link sharesPages}. */
  readonly isShared: boolean;
}

/** A process in which writes can be noticed; they are from the moment on when pages have been protected. */
export interface Tracked {
  readonly pid: number;
  readonly uffd: number;
  /** Its mappings when it was entered. */
  readonly maps: readonly Vma[];
  /** Those in which writes can be noticed. */
  readonly mappings: readonly PageRange[];
}

/** Whether there is enough memory to gain by copying ahead (unless `isWanted`), and nothing in the process that forbids it. */
export function isWorthPreCopy(pid: number, isWanted: boolean): boolean {
  try {
    // /proc/PID/statm: pages in all, present, and of those shared ones.
    const [, present = 0, shared = 0] = readFileSync(`/proc/${pid}/statm`, "latin1").split(" ").map(Number);
    if ((present - shared) * Number(PAGE) < (isWanted ? 0 : WORTH_BYTES)) return false;
    const maps = readMaps(pid);
    const trackable = bytesOf(maps.filter(isLargeEnough));
    return trackable >= (isWanted ? 0 : WORTH_BYTES) && !hasOwnRequests(pid, maps);
  } catch {
    return false; // it ended; the dump itself will say so if that matters
  }
}

/** I/O of its own that goes on while it stands still, or a userfaultfd, which would be in the way of ours. */
export function hasOwnRequests(pid: number, maps: readonly Vma[]): boolean {
  if (maps.some((vma) => areaKind(vma) === "aio")) return true;
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).some((fd) => /^anon_inode:\[?(io_uring|userfaultfd)/.test(linkOf(`${folder}/${fd}`)));
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

/** Makes a process trackable; it stands still, with its stub in place. `maps`: its mappings without the stub. */
export function track(task: TracedTask, maps: readonly Vma[]): Tracked | undefined {
  if (task.hasLostLeader) return undefined;
  const uffd = makeInside(task.leader, SYS.userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  if (uffd === undefined) return undefined;
  try {
    uffdioApi(uffd, UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    return { pid: task.pid, uffd, maps, mappings: register(uffd, maps) };
  } catch (error) {
    closeSync(uffd);
    if (error instanceof KernelError) return undefined; // a kernel that cannot do it: memory is saved the ordinary way
    throw error;
  }
}

/** Gives every page that is there a place in file `fd`; nothing is copied yet. The process may run. */
export function planCopy({ pid, maps }: Tracked, fd: number): PreCopied {
  const { runs } = findRuns(pid, maps);
  const reserved = reserve(runs, maps);
  const layout = placed(union(runs, reserved));
  ftruncateSync(fd, bytesOf(layout));
  // What is not there reads as zeros, like the holes in the copy.
  return { pid, fd, layout, reserved, copied: reserved, isShared: sharesPages(pid) };
}

/**
 * Takes up what a process has mapped since the dump before; pages that were written up to that dump are protected. The process stands
 * still. `vmas`: its mappings, with flags. `lasting`: mappings in which everything has been noticed since; what was moved or mapped anew is not among them.
 */
export function trackMore(before: Tracked, vmas: readonly Vma[]): { tracked: Tracked; lasting: readonly PageRange[] } {
  const lasting = vmas.filter((vma) => vma.flags.has("uw") && isLargeEnough(vma));
  const fresh = register(before.uffd, vmas);
  return { tracked: { ...before, maps: vmas, mappings: [...lasting, ...fresh].sort(byAddress) }, lasting };
}

/** The plan for a process that was tracked since the dump before: what is not written is as in the images of that one, `inParent`. */
export function planIncrement(
  tracked: Tracked,
  fd: number,
  known: { lasting: readonly PageRange[]; inParent: readonly PageRange[] },
): PreCopied {
  const plan = planCopy(tracked, fd);
  const there = difference(union(plan.layout, []), plan.reserved);
  const equal = intersection(intersection(union(known.inParent, []), known.lasting), there);
  return { ...plan, equal, copied: union(plan.copied, equal) };
}

/** Mappings in parts, each with so many bytes of pages that are there (by the plan) at most: what is protected in one stop. */
export function* partsToProtect(mappings: readonly PageRange[], present: readonly PageRange[], bytes: bigint): Generator<PageRange[]> {
  let part: PageRange[] = [];
  let room = bytes;
  for (const mapping of mappings) {
    let from = mapping.start;
    for (const { start, end } of intersection([mapping], present)) {
      let at = start;
      while (end - at > room) {
        at += room;
        part.push({ start: from, end: at });
        yield part;
        part = [];
        room = bytes;
        from = at;
      }
      room -= end - at;
    }
    part.push({ start: from, end: mapping.end });
  }
  if (part.length > 0) yield part;
}

function placed(ranges: readonly PageRange[]): PlacedRange[] {
  let offset = 0n;
  return ranges.map(({ start, end }) => {
    const place = { start, end, offset };
    offset += end - start;
    return place;
  });
}

/**
 * Pages that are not there yet but have a place in the image all the same, as long as they are few: of a page that comes while
 * the others are copied, all that lie behind it in the image would have to be moved.
 */
function reserve(runs: readonly PageRange[], maps: readonly Vma[]): PageRange[] {
  let room = Math.max(LEAST_RESERVE_BYTES, bytesOf(runs) / RESERVED_PART);
  const writable = maps.filter((vma) => isPlainMemory(vma) && vma.read && vma.write);
  const holes = difference(writable, runs).sort((a, b) => Number(a.end - a.start - (b.end - b.start)));
  const chosen = holes.filter(({ start, end }) => {
    room -= Number(end - start);
    return room >= 0;
  });
  return chosen.sort(byAddress);
}

function byAddress(a: PageRange, b: PageRange): number {
  return a.start < b.start ? -1 : 1;
}

/** Private memory of no file, of pages of the usual size. */
function isPlainMemory(vma: Vma): boolean {
  return vma.inode === 0n && hasOwnPages(vma) && vma.start < TASK_END;
}

/** The reserved pages that still are not there, in memory where they read as zeros. */
export function stillReserved({ reserved }: PreCopied, runs: readonly PageRange[], vmas: readonly Vma[]): PageRange[] {
  return intersection(difference(reserved, runs), vmas.filter(isPlainMemory));
}

/** How many bytes ranges have in all. */
export function bytesOf(ranges: readonly PageRange[]): number {
  return Number(ranges.reduce((sum, { start, end }) => sum + (end - start), 0n));
}

/**
 * Registers the larger anonymous mappings that are not yet; what cannot be tracked is saved the ordinary way.
 *
 * Not those of files: where MADV_DONTNEED has dropped a protected page of one, the kernel (6.18) leaves a mark that reads
 * like the page itself, unwritten.
 */
function register(uffd: number, maps: readonly Vma[]): PageRange[] {
  const known = maps.filter((vma) => vma.flags.has("uw"));
  const tracked = maps
    .filter((vma) => isLargeEnough(vma) && !vma.flags.has("uw"))
    .slice(0, MAX_MAPPINGS)
    .filter((vma) => registerOne(uffd, vma));
  for (const vma of neighbours(new Set([...known, ...tracked]), maps)) registerOne(uffd, vma);
  return tracked;
}

function registerOne(uffd: number, { start, end }: PageRange): boolean {
  try {
    uffdioRegister(uffd, { address: start, sizeBytes: end - start }, UFFDIO_REGISTER_MODE_WP);
    return true;
  } catch {
    return false;
  }
}

/**
 * What lies right beside tracked mappings, small or closed for now: the kernel makes one mapping of two only if both are registered or
 * neither is, and mremap(2) takes no more than one. So a program that opens a reservation piece by piece finds no difference.
 */
function neighbours(taken: ReadonlySet<Vma>, maps: readonly Vma[]): Vma[] {
  const found: Vma[] = [];
  maps.forEach((vma, i) => {
    if (taken.has(vma) || !isPlainMemory(vma)) return;
    const [before, behind] = [maps[i - 1], maps[i + 1]];
    const isBeside = before !== undefined && taken.has(before) && before.end === vma.start;
    const isBelow = behind !== undefined && taken.has(behind) && behind.start === vma.end;
    if (isBeside || isBelow) found.push(vma);
  });
  return found;
}

/** Whether it is worth a call to track a mapping. */
function isLargeEnough(vma: Vma): boolean {
  return vma.end - vma.start >= SMALLEST_MAPPING_BYTES && vma.read && isPlainMemory(vma);
}

/**
 * Protects the pages that are there, or those of them that were written since; returns them. The process stands still. `ahead`: a look that
 * has been taken; what was written behind it, by the kernel in our calls, counts as written later.
 */
export function protect(
  pid: number,
  mappings: readonly PageRange[],
  { writtenOnly = false, ahead }: { writtenOnly?: boolean; ahead?: UnprotectedAhead | undefined } = {},
): PageRange[] {
  return scan(pid, mappings, { writtenOnly, flags: PM_SCAN_WP_MATCHING, ahead });
}

/** Bytes written since pages were protected. */
export function writtenBytes({ pid, mappings }: Tracked): number {
  try {
    return bytesOf(scan(pid, mappings, { writtenOnly: true, flags: 0n }));
  } catch {
    return 0; // it ended
  }
}

interface Scan {
  readonly writtenOnly: boolean;
  readonly flags: bigint;
  readonly ahead?: UnprotectedAhead | undefined;
}

function scan(pid: number, mappings: readonly PageRange[], { writtenOnly, flags, ahead }: Scan): PageRange[] {
  const ranges: PageRange[] = [];
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    const inverted = PAGE_IS_PFNZERO;
    const mask = writtenOnly ? inverted | PAGE_IS_WRITTEN : inverted;
    const stretchesOf = (one: PageRange) => ahead?.of(pid, one) ?? unprotectedStretches(pagemap, one);
    const what = { flags, inverted, mask, anyOf: PAGE_IS_PRESENT | PAGE_IS_SWAPPED, returned: 0n };
    pagemapScanRanges(pagemap, what, writtenOnly ? mappings.flatMap(stretchesOf) : mappings, (start, end) => ranges.push({ start, end }));
  } finally {
    closeSync(pagemap);
  }
  return ranges;
}

/** Copies pages that have just been protected, for the first time or again; the process runs. `done`: bytes so far. */
export function copyProtected(before: PreCopied, written: readonly PageRange[], done?: (bytes: number) => void): PreCopied {
  const { pid, fd, layout, copied, reserved } = before;
  // Whatever cannot be copied this time is not what the copy has.
  const again = copyRanges(pid, intersection(written, layout), { layout, fd, isShared: before.isShared }, done);
  const equal = before.equal === undefined ? {} : { equal: difference(before.equal, written) };
  return { ...before, ...equal, reserved: difference(reserved, written), copied: union(difference(copied, written), again) };
}

/** Copies `ranges` to their places; returns what could be copied. */
export function copyRanges(
  pid: number,
  ranges: readonly PageRange[],
  to: { layout: readonly PlacedRange[]; fd: number; isShared: boolean },
  done?: (bytes: number) => void,
): PageRange[] {
  if (!to.isShared && copySparse(pid, [...batches(ranges)], { places: new Places(to.layout), fd: to.fd })) {
    done?.(bytesOf(ranges));
    return [...ranges];
  }
  const memory = to.isShared ? openMemory(pid) : undefined;
  try {
    return copyBatches(pid, ranges, { ...to, memory, done });
  } finally {
    if (memory !== undefined) closeSync(memory);
  }
}

interface Copying {
  readonly layout: readonly PlacedRange[];
  readonly fd: number;
  /** /proc/PID/mem, where that is to be used. */
  readonly memory: number | undefined;
  readonly done: ((bytes: number) => void) | undefined;
}

function copyBatches(pid: number, ranges: readonly PageRange[], to: Copying): PageRange[] {
  const copied: PageRange[] = [];
  if (ranges.length === 0) return copied;
  const places = new Places(to.layout);
  const behind = isTooLargeForCache(bytesOf(to.layout)) ? new WriteBehind(to.fd) : undefined;
  using copier = new MemoryCopier({ pid, memory: to.memory }, to.fd, bytesOf(ranges));
  let total = 0;
  const take = ({ step, jobs }: CopyStep, all: readonly number[]) => {
    for (const [i, got] of all.entries()) {
      // What is no longer there ends a batch early and is left to the freeze, as is a process that has ended.
      let left = got;
      for (const { address, sizeBytes } of step[i] ?? []) {
        const whole = Math.min(Number(sizeBytes), left);
        if (whole > 0) copied.push({ start: address, end: address + BigInt(whole) });
        left -= whole;
      }
      total += got;
    }
    behind?.step(extentOf(jobs.flatMap(({ placements }) => placements)));
    to.done?.(total);
  };
  let running: CopyStep | undefined;
  for (const step of steps(ranges)) {
    const jobs = step.map((batch) => ({ ranges: batch, placements: places.of(batch) }));
    const next = { step, jobs, copy: copier.prepare(jobs) };
    const got = running?.copy.join();
    next.copy.start();
    if (running !== undefined && got !== undefined) take(running, got);
    running = next;
  }
  if (running !== undefined) take(running, running.copy.join());
  behind?.finish();
  return copied;
}

/** Some batches, and the lanes' work on them. */
interface CopyStep {
  readonly step: readonly (readonly MemoryRange[])[];
  readonly jobs: readonly CopyJob[];
  readonly copy: PreparedCopy;
}

/** The part of a file that placements lie in. */
function extentOf(placements: readonly Placement[]): { offset: bigint; sizeBytes: bigint } {
  const [first, last] = [placements[0], placements.at(-1)];
  if (first === undefined || last === undefined) return { offset: 0n, sizeBytes: 0n };
  return { offset: first.offset, sizeBytes: last.offset + BigInt(last.sizeBytes) - first.offset };
}

/** So much that is shared is worth to be left so. */
const MUCH_SHARED_BYTES = 256 << 10;

/**
 * Whether a process shares pages with relatives since a fork, or by KSM. process_vm_readv(2) pins what it reads, for which the kernel
 * first makes a copy of every such page, and the two have it twice from then on; reading /proc/PID/mem does not, but is half as fast.
 */
export function sharesPages(pid: number): boolean {
  try {
    return (readSharedAnonymousBytes(pid) ?? MUCH_SHARED_BYTES) >= MUCH_SHARED_BYTES;
  } catch {
    return true; // it ended
  }
}

function openMemory(pid: number): number | undefined {
  try {
    return openSync(`/proc/${pid}/mem`, "r");
  } catch {
    return undefined; // it ended
  }
}

/** Batches in groups: between two of them somebody is told how far it is. */
function* steps(ranges: readonly PageRange[]): Generator<MemoryRange[][]> {
  let step: MemoryRange[][] = [];
  for (const batch of batches(ranges)) {
    step.push(batch);
    if (step.length < STEP_BATCHES) continue;
    yield step;
    step = [];
  }
  if (step.length > 0) yield step;
}

/** Ranges in pieces that fit into one buffer and one vector. */
function* batches(ranges: readonly PageRange[]): Generator<MemoryRange[]> {
  let batch: MemoryRange[] = [];
  let room = BigInt(COPY_CHUNK_BYTES);
  for (const { start, end } of ranges) {
    for (let at = start; at < end; ) {
      const sizeBytes = end - at < room ? end - at : room;
      batch.push({ address: at, sizeBytes });
      room -= sizeBytes;
      at += sizeBytes;
      if (room > 0n && batch.length < UIO_MAXIOV) continue;
      yield batch;
      batch = [];
      room = BigInt(COPY_CHUNK_BYTES);
    }
  }
  if (batch.length > 0) yield batch;
}

/** Finds the places of pages; what it is asked for ascends. */
class Places {
  readonly #layout: readonly PlacedRange[];
  #at = 0;

  constructor(layout: readonly PlacedRange[]) {
    this.#layout = layout;
  }

  /** Where the bytes of a batch, one range after another, belong. */
  of(batch: readonly MemoryRange[]): Placement[] {
    const placements: Placement[] = [];
    let base = 0;
    for (const { address, sizeBytes } of batch) {
      const end = address + sizeBytes;
      for (let from = address; from < end; ) {
        const place = this.#layout[this.#at];
        if (place === undefined) break;
        if (place.end <= from) {
          this.#at++;
          continue;
        }
        if (place.start > from) from = place.start;
        const to = place.end < end ? place.end : end;
        if (to <= from) break;
        placements.push({ from: base + Number(from - address), sizeBytes: Number(to - from), offset: place.offset + from - place.start });
        from = to;
      }
      base += Number(sizeBytes);
    }
    return placements;
  }
}
