/**
 * Pre-copy: memory is copied while its process runs, and only what was written meanwhile is copied while it stands still.
 *
 * Tracked by  userfaultfd(2) in WP_ASYNC mode, made inside the process and taken over; PAGEMAP_SCAN with WP_MATCHING
 * Copied by   process_vm_readv(2), from outside
 *
 * Protection is set while the process stands still, and only once: a thread that stands still has no system call under way,
 * so no device writes into pages that were protected behind its back (O_DIRECT). Processes with asynchronous I/O, which goes
 * on while they stand still, are left to the ordinary way. Whatever is not certainly unchanged counts as written: mappings
 * made later, moved or forked, and pages that were not there.
 *
 * The kernel lifts the protection by itself when our descriptor of the userfaultfd is closed, in whatever way.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, readdirSync, readlinkSync, writeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { kernelError } from "../../linux/errno.js";
import type { MemoryRange } from "../../linux/memory.js";
import { UIO_MAXIOV, processVmReadv } from "../../linux/memory.js";
import {
  PAGE_IS_PFNZERO,
  PAGE_IS_PRESENT,
  PAGE_IS_SWAPPED,
  PAGE_IS_WRITTEN,
  PM_SCAN_WP_MATCHING,
  pagemapScanEach,
} from "../../linux/pagemap.js";
import { readMaps } from "../../linux/proc/read.js";
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
/** Copied at once: small enough to stay in the processor's cache between reading and writing. */
const CHUNK_BYTES = 1 << 20;
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
}

/** A process whose memory is being tracked. */
export interface Tracked {
  readonly pid: number;
  readonly uffd: number;
  readonly layout: readonly PlacedRange[];
  readonly reserved: readonly PageRange[];
  /** Mappings in which writes are noticed. */
  readonly mappings: readonly PageRange[];
  /** Pages that were there and have been protected. */
  readonly ranges: readonly PageRange[];
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
function hasOwnRequests(pid: number, maps: readonly Vma[]): boolean {
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

/** Begins to track writes; the process stands still, with its stub in place. `maps`: its mappings without the stub. */
export function track(task: TracedTask, maps: readonly Vma[]): Tracked | undefined {
  if (task.hasLostLeader) return undefined;
  const uffd = makeInside(task.leader, SYS.userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  if (uffd === undefined) return undefined;
  try {
    uffdioApi(uffd, UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    const { runs } = findRuns(task.pid, maps);
    const reserved = reserve(runs, maps);
    const mappings = register(uffd, maps);
    return { pid: task.pid, uffd, layout: placed(union(runs, reserved)), reserved, mappings, ranges: protect(task.pid, mappings) };
  } catch (error) {
    closeSync(uffd);
    if (error instanceof KernelError) return undefined; // a kernel that cannot do it: memory is saved the ordinary way
    throw error;
  }
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

function bytesOf(ranges: readonly PageRange[]): number {
  return Number(ranges.reduce((sum, { start, end }) => sum + (end - start), 0n));
}

/**
 * Registers the larger anonymous mappings; what cannot be tracked is saved the ordinary way.
 *
 * Not those of files: where MADV_DONTNEED has dropped a protected page of one, the kernel (6.18) leaves a mark that reads
 * like the page itself, unwritten.
 */
function register(uffd: number, maps: readonly Vma[]): PageRange[] {
  return maps
    .filter(isLargeEnough)
    .slice(0, MAX_MAPPINGS)
    .filter(({ start, end }) => {
      try {
        uffdioRegister(uffd, { address: start, sizeBytes: end - start }, UFFDIO_REGISTER_MODE_WP);
        return true;
      } catch {
        return false;
      }
    });
}

/** Whether it is worth a call to track a mapping. */
function isLargeEnough(vma: Vma): boolean {
  return vma.end - vma.start >= SMALLEST_MAPPING_BYTES && vma.read && isPlainMemory(vma);
}

/** Protects the pages that are there, or those of them that were written since; returns them. The process stands still. */
export function protect(pid: number, mappings: readonly PageRange[], writtenOnly = false): PageRange[] {
  return scan(pid, mappings, { writtenOnly, flags: PM_SCAN_WP_MATCHING });
}

/** Bytes written since pages were protected. */
export function writtenBytes({ pid, mappings }: Tracked): number {
  try {
    return bytesOf(scan(pid, mappings, { writtenOnly: true, flags: 0n }));
  } catch {
    return 0; // it ended
  }
}

function scan(pid: number, mappings: readonly PageRange[], { writtenOnly, flags }: { writtenOnly: boolean; flags: bigint }): PageRange[] {
  const ranges: PageRange[] = [];
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    const inverted = PAGE_IS_PFNZERO;
    for (const { start, end } of mappings) {
      const mask = writtenOnly ? inverted | PAGE_IS_WRITTEN : inverted;
      const what = { start, end, flags, inverted, mask, anyOf: PAGE_IS_PRESENT | PAGE_IS_SWAPPED, returned: 0n };
      pagemapScanEach(pagemap, what, (from, to) => ranges.push({ start: from, end: to }));
    }
  } finally {
    closeSync(pagemap);
  }
  return ranges;
}

/** Copies what is tracked into `fd`, while the process runs. `done` is told how many bytes have been copied. */
export function copyAhead(tracked: Tracked, fd: number, done?: (bytes: number) => void): PreCopied {
  const { pid, layout, ranges, reserved } = tracked;
  ftruncateSync(fd, bytesOf(layout));
  // What is not there reads as zeros, like the holes in the copy.
  return { pid, fd, layout, reserved, copied: union(copyRanges(pid, ranges, { layout, fd }, done), reserved) };
}

/** Copies once more what was written and has just been protected again. */
export function copyAgain(before: PreCopied, written: readonly PageRange[]): PreCopied {
  const { pid, fd, layout, copied, reserved } = before;
  // Whatever cannot be copied this time is not what the copy has.
  const again = copyRanges(pid, intersection(written, layout), { layout, fd });
  return { ...before, reserved: difference(reserved, written), copied: union(difference(copied, written), again) };
}

/** Copies `ranges` to their places; returns what could be copied. */
export function copyRanges(
  pid: number,
  ranges: readonly PageRange[],
  to: { layout: readonly PlacedRange[]; fd: number },
  done?: (bytes: number) => void,
): PageRange[] {
  const copied: PageRange[] = [];
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  const places = new Places(to.layout);
  let total = 0;
  for (const batch of batches(ranges)) {
    const got = read(pid, batch, buffer);
    let at = 0;
    for (const { address, sizeBytes } of batch) {
      const whole = Math.min(Number(sizeBytes), got - at) & ~(Number(PAGE) - 1);
      if (whole <= 0) break;
      const range = { start: address, end: address + BigInt(whole) };
      places.write(to.fd, buffer.subarray(at, at + whole), range);
      copied.push(range);
      at += whole;
      if (whole < Number(sizeBytes)) break;
    }
    total += at;
    done?.(total);
  }
  return copied;
}

/** Bytes read; what is no longer there ends the batch early and is left to the freeze, as is a process that has ended. */
function read(pid: number, batch: readonly MemoryRange[], into: Buffer): number {
  const bytes = batch.reduce((sum, range) => sum + Number(range.sizeBytes), 0);
  try {
    return processVmReadv(pid, batch, into.subarray(0, bytes));
  } catch {
    return 0;
  }
}

/** Ranges in pieces that fit into one buffer and one vector. */
function* batches(ranges: readonly PageRange[]): Generator<MemoryRange[]> {
  let batch: MemoryRange[] = [];
  let room = BigInt(CHUNK_BYTES);
  for (const { start, end } of ranges) {
    for (let at = start; at < end; ) {
      const sizeBytes = end - at < room ? end - at : room;
      batch.push({ address: at, sizeBytes });
      room -= sizeBytes;
      at += sizeBytes;
      if (room > 0n && batch.length < UIO_MAXIOV) continue;
      yield batch;
      batch = [];
      room = BigInt(CHUNK_BYTES);
    }
  }
  if (batch.length > 0) yield batch;
}

function write(fd: number, bytes: Buffer, position: number): number {
  try {
    return writeSync(fd, bytes, 0, bytes.length, position);
  } catch (error) {
    const { errno = -5 } = error as NodeJS.ErrnoException;
    throw kernelError("pwrite of memory copied ahead", errno, "writing the pages image");
  }
}

/** Writes pages to their places; both ascend. */
class Places {
  readonly #layout: readonly PlacedRange[];
  #at = 0;

  constructor(layout: readonly PlacedRange[]) {
    this.#layout = layout;
  }

  write(fd: number, bytes: Buffer, range: PageRange): void {
    let from = range.start;
    while (from < range.end) {
      const place = this.#layout[this.#at];
      if (place === undefined) return;
      if (place.end <= from) {
        this.#at++;
        continue;
      }
      const to = place.end < range.end ? place.end : range.end;
      const part = bytes.subarray(Number(from - range.start), Number(to - range.start));
      for (let wrote = 0; wrote < part.length; ) {
        const position = Number(place.offset + from - place.start) + wrote;
        wrote += write(fd, part.subarray(wrote), position);
      }
      from = to;
    }
  }
}
