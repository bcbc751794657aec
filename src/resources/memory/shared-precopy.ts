/**
 * Pre-copy of memory that processes share: anonymous, System V segments, memfds of pages of the usual size.
 *
 * Tracked by  userfaultfd(2) in WP_ASYNC mode in every process of the tree that maps the object; PAGEMAP_SCAN
 * Copied by   process_vm_readv(2) from a mapping of our own
 *
 * What one process writes the tracking of another one does not see. So a copy is believed only if nobody can have written past
 * the tracking; otherwise the object is saved in the freeze as a whole. Nobody can, if
 *
 * - every mapping of it is the tracked one, of the same pages, as when tracking began, and no other process has mapped it;
 * - no new mapping was made: mmap(2) and shmat(2) set the access time of the object, which we do not (O_NOATIME);
 * - no process that maps it has forked, doubled a mapping (mremap(2) with a size of 0 or MREMAP_DONTUNMAP) or taken out pages
 *   (MADV_REMOVE): the kernel counts that for us (`linux/perf.ts`);
 * - it is no memfd that was written to, by whomever, as write(2) and fallocate(2) on its descriptor pass by all mappings: its time
 *   of modification, which a write through a mapping may set as well. With F_SEAL_FUTURE_WRITE and F_SEAL_SHRINK there is no other way.
 *
 * A page counts as unwritten only where every mapping still has its mark. Marks are set for pages that are not there as well: of a
 * page without a mark nobody knows whether it was written, and dropped again (MADV_DONTNEED).
 */
import { closeSync, constants, fstatSync, ftruncateSync, readFileSync } from "node:fs";
import { openSync } from "../../linux/named-files.js";
import { toStatDevice } from "../../linux/device-numbers.js";
import { KernelError } from "../../errors.js";
import { F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, getSeals } from "../../linux/fcntl.js";
import { O_NOATIME, SEEK_DATA, SEEK_HOLE, fstatfs, lseek, setTimesOf } from "../../linux/files.js";
import { MAP_SHARED, MFD_CLOEXEC, PROT_READ, memfdCreate, mmap, munmap } from "../../linux/memory.js";
import {
  PAGE_IS_PRESENT,
  PAGE_IS_SWAPPED,
  PAGE_IS_WRITTEN,
  PM_SCAN_WP_MATCHING,
  type PagemapScan,
  pagemapScanEach,
} from "../../linux/pagemap.js";
import type { Vma } from "../../linux/proc/maps.js";
import { readMaps } from "../../linux/proc/read.js";
import type { DumpTask } from "../part.js";
import { areaKind } from "./area.js";
import { distinctPlaces } from "./increment.js";
import { HUGETLBFS_MAGIC } from "./memfd-dump.js";
import { intersection, union } from "./page-ranges.js";
import type { PageRange } from "./page-runs.js";
import { type PreCopied, bytesOf, copyProtected, copyRanges } from "./precopy.js";

const PAGE = 4096n;
const NS_PER_MS = 1_000_000n;
/** Longer than a tick of any kernel, in which two changes leave one time. */
const TICKS_MS = 25n;
/** With these seals a memfd can be neither written through a descriptor nor cut, nor holes be made in it. */
const CLOSED = F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK;

/** A mapping of an object in one process; `offset` is that of its first page in the object. */
export interface SharedMapping extends PageRange {
  readonly pid: number;
  readonly offset: bigint;
}

/** An object that a tree shares, and who maps it where. */
export interface SharedObject {
  readonly key: string;
  readonly isMemfd: boolean;
  readonly mappings: readonly SharedMapping[];
}

/** Times of an inode, and its size: what shows that somebody did something to it. */
interface Seen {
  readonly accessed: bigint;
  readonly modified: bigint;
  readonly changed: bigint;
  readonly sizeBytes: bigint;
}

/** A copy of an object, and what it was made of. */
export interface SharedCopy extends SharedObject {
  readonly fd: number;
  /** Where we have it mapped; the addresses of the copy are those of this mapping. */
  readonly address: bigint;
  readonly sizeBytes: bigint;
  readonly seen: Seen;
  /** Nobody can change it but through a mapping. */
  readonly isSealed: boolean;
  readonly copied: PreCopied;
}

/** What a copy is good for at the freeze: pages that were written since, in its addresses. */
export interface TakenShared {
  readonly copy: SharedCopy;
  readonly written: readonly PageRange[];
}

/** The same object has the same key; a number of a segment is one of its own. */
export function sharedKey(isSegment: boolean, { dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${isSegment ? "segment" : "inode"} ${dev}/${ino}`;
}

function keyOfMapping(vma: Vma): { key: string; isMemfd: boolean } | undefined {
  if (!vma.shared) return undefined;
  const kind = areaKind(vma);
  if (kind !== "shared-anonymous" && kind !== "sysv" && kind !== "memfd") return undefined;
  const dev = toStatDevice({ major: vma.devMajor, minor: vma.devMinor });
  return { key: sharedKey(kind === "sysv", { dev, ino: vma.inode }), isMemfd: kind === "memfd" };
}

/** Whether any of the processes has so much of what may be shared in its page tables. */
export function mayShare(pids: readonly number[], leastBytes: number): boolean {
  return pids.some((pid) => {
    try {
      const [, , shared = 0] = readFileSync(`/proc/${pid}/statm`, "latin1").split(" ").map(Number);
      return shared * Number(PAGE) >= leastBytes;
    } catch {
      return false; // it ended
    }
  });
}

/** Objects of at least so many bytes that the processes map. */
export function findSharedObjects(pids: readonly number[], leastBytes: number): SharedObject[] {
  const found = new Map<string, { key: string; isMemfd: boolean; mappings: SharedMapping[] }>();
  for (const pid of pids) {
    for (const vma of mapsOf(pid)) {
      const of = keyOfMapping(vma);
      if (of === undefined) continue;
      const object = found.get(of.key) ?? { ...of, mappings: [] };
      object.mappings.push({ pid, start: vma.start, end: vma.end, offset: vma.offset });
      found.set(of.key, object);
    }
  }
  return [...found.values()].filter(({ mappings }) => mappings.some(({ start, end }) => Number(end - start) >= leastBytes));
}

/** What one process maps of an object. */
export function mappingsOf(key: string, { pid, maps }: { readonly pid: number; readonly maps: readonly Vma[] }): SharedMapping[] {
  const own = maps.filter((vma) => keyOfMapping(vma)?.key === key);
  return own.map(({ start, end, offset }) => ({ pid, start, end, offset }));
}

function mapsOf(pid: number): Vma[] {
  try {
    return readMaps(pid);
  } catch {
    return []; // it ended
  }
}

/** Whether a process outside of the tree, as far as we see any, maps one of the objects; returns the keys of those. */
export function mappedOutside(others: readonly number[], keys: ReadonlySet<string>): Set<string> {
  const outside = new Set<string>();
  for (const pid of others) {
    for (const vma of mapsOf(pid)) {
      const key = keyOfMapping(vma)?.key;
      if (key !== undefined && keys.has(key)) outside.add(key);
    }
  }
  return outside;
}

let isMarked: boolean | undefined;

/** Whether a mapping that is made sets the access time of its object, also where that lies behind the time of modification. */
export function mappingsAreMarked(): boolean {
  isMarked ??= triedMarks();
  return isMarked;
}

function triedMarks(): boolean {
  const fd = memfdCreate("floe-probe", MFD_CLOEXEC);
  try {
    ftruncateSync(fd, Number(PAGE));
    const old = BigInt(Date.now() - 60_000) * NS_PER_MS;
    setTimesOf(fd, { atimeNs: old, mtimeNs: old - NS_PER_MS });
    munmap({ address: mmap({ sizeBytes: PAGE, protection: PROT_READ, flags: MAP_SHARED, fd }), sizeBytes: PAGE });
    return fstatSync(fd, { bigint: true }).atimeNs > old;
  } finally {
    closeSync(fd);
  }
}

/** Opens an object and gives its pages their places in file `copyFd`; what is done to it from here on shows. Nothing is copied yet. */
export function planShared(object: SharedObject, copyFd: number): SharedCopy | undefined {
  const [first] = object.mappings;
  if (first === undefined) return undefined;
  const path = `/proc/${first.pid}/map_files/${first.start.toString(16)}-${first.end.toString(16)}`;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | O_NOATIME);
  } catch {
    return undefined; // it was unmapped
  }
  const seen = seenOf(fd);
  const sizeBytes = (seen.sizeBytes + PAGE - 1n) & ~(PAGE - 1n);
  const isRecent = BigInt(Date.now()) * NS_PER_MS - seen.accessed < TICKS_MS * NS_PER_MS;
  if (sizeBytes === 0n || isRecent || fstatfs(fd).type === HUGETLBFS_MAGIC) {
    closeSync(fd);
    return undefined;
  }
  const address = mmap({ sizeBytes, protection: PROT_READ, flags: MAP_SHARED, fd });
  const layout = distinctPlaces(dataOf(fd, [{ start: 0n, end: sizeBytes }]).map((range) => shifted(range, address)));
  ftruncateSync(copyFd, bytesOf(layout));
  const copied = { pid: process.pid, fd: copyFd, layout, reserved: [], copied: [], isShared: false };
  const isSealed = !object.isMemfd || ((getSeals(fd) ?? 0) & CLOSED) === CLOSED;
  return { ...object, fd, address, sizeBytes, seen, isSealed, copied };
}

function seenOf(fd: number): Seen {
  const { atimeNs, mtimeNs, ctimeNs, size } = fstatSync(fd, { bigint: true });
  return { accessed: atimeNs, modified: mtimeNs, changed: ctimeNs, sizeBytes: size };
}

export function shifted({ start, end }: PageRange, by: bigint): PageRange {
  return { start: start + by, end: end + by };
}

/** The parts of `ranges` of an object in which there are pages. */
export function dataOf(fd: number, ranges: readonly PageRange[]): PageRange[] {
  const data: PageRange[] = [];
  for (const range of ranges) {
    for (let at = range.start; at < range.end; ) {
      const found = lseek(fd, at, SEEK_DATA);
      if (found === undefined || BigInt(found) >= range.end) break;
      const start = BigInt(found) & ~(PAGE - 1n);
      const hole = (BigInt(lseek(fd, start, SEEK_HOLE) ?? Number(range.end)) + PAGE - 1n) & ~(PAGE - 1n);
      const end = hole < range.end ? hole : range.end;
      data.push({ start, end });
      at = end;
    }
  }
  return data;
}

/** Closes what we hold of the object itself. */
export function closeShared({ fd, address, sizeBytes }: SharedCopy): void {
  munmap({ address, sizeBytes });
  closeSync(fd);
}

/** Sets the marks of a part of a mapping, also where there are no pages. The process stands still. */
export function markAll(pid: number, range: PageRange): void {
  scan(pid, [{ ...range, flags: PM_SCAN_WP_MATCHING, returned: 0n }]);
}

/** Pages of a mapping without a mark, as ranges of the object; `again`: they are marked again, for which the process must stand still. */
export function writtenIn(mapping: SharedMapping, again: boolean): PageRange[] {
  const { pid, start, end, offset } = mapping;
  const there = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  const absent = scan(pid, [{ start, end, inverted: there, mask: there, returned: 0n }]);
  const written = scan(pid, [{ start, end, mask: PAGE_IS_WRITTEN, flags: again ? PM_SCAN_WP_MATCHING : 0n, returned: 0n }]);
  if (again) for (const range of absent) markAll(pid, range);
  const all = [...absent, ...written].sort((a, b) => (a.start < b.start ? -1 : 1));
  return union(all, []).map((range) => shifted(range, offset - start));
}

function scan(pid: number, scans: readonly PagemapScan[]): PageRange[] {
  const ranges: PageRange[] = [];
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    for (const one of scans) pagemapScanEach(pagemap, one, (start, end) => ranges.push({ start, end }));
  } finally {
    closeSync(pagemap);
  }
  return ranges;
}

/** Ranges of an object, of one mapping or of several, as addresses of the copy. */
export function inCopy({ address, sizeBytes }: SharedCopy, ranges: readonly PageRange[]): PageRange[] {
  const ascending = [...ranges].sort((a, b) => (a.start < b.start ? -1 : 1));
  return intersection(union(ascending, []), [{ start: 0n, end: sizeBytes }]).map((range) => shifted(range, address));
}

/** Copies everything, once all mappings have their marks. */
export function copyShared(copy: SharedCopy): SharedCopy {
  const { pid, layout, fd } = copy.copied;
  return { ...copy, copied: { ...copy.copied, copied: copyRanges(pid, layout, { layout, fd, isShared: false }) } };
}

/** Copies what has been marked again. */
export function copySharedAgain(copy: SharedCopy, written: readonly PageRange[]): SharedCopy {
  return { ...copy, copied: copyProtected(copy.copied, written) };
}

/** Why a copy is not to be believed, in the freeze; undefined: nobody can have written past the tracking. */
export function doubtOf(copy: SharedCopy, tasks: readonly DumpTask[]): string | undefined {
  const now = seenOf(copy.fd);
  const { seen } = copy;
  if (now.sizeBytes !== seen.sizeBytes) return "its size has changed";
  if (now.accessed !== seen.accessed) return "it was mapped or read meanwhile";
  const isUntouched = now.modified === seen.modified && now.changed === seen.changed;
  if (!copy.isSealed && !isUntouched) return "it is a memfd, and was written to, perhaps through a descriptor";
  const mappings: SharedMapping[] = [];
  for (const task of tasks) {
    for (const vma of task.vmas) {
      // What was opened for reading only can never be written through.
      if (keyOfMapping(vma)?.key !== copy.key || !vma.flags.has("mw")) continue;
      if (!vma.flags.has("uw")) return `process ${task.traced.pid} has mapped it since`;
      if (tasks.some((other) => other !== task && other.ids.vm === task.ids.vm)) return "processes share their memory as a whole";
      mappings.push({ pid: task.traced.pid, start: vma.start, end: vma.end, offset: vma.offset });
    }
  }
  return samePages(mappings, copy.mappings) ? undefined : "a mapping of it has gone or changed";
}

/** Whether two lists of mappings show the same pages at the same places, however they are cut. */
export function samePages(a: readonly SharedMapping[], b: readonly SharedMapping[]): boolean {
  const [one, other] = [joined(a), joined(b)];
  return one.length === other.length && one.every((text, i) => text === other[i]);
}

function joined(mappings: readonly SharedMapping[]): string[] {
  const sorted = [...mappings].sort((x, y) => (x.pid !== y.pid ? x.pid - y.pid : x.start < y.start ? -1 : 1));
  const whole: { pid: number; start: bigint; end: bigint; offset: bigint }[] = [];
  for (const { pid, start, end, offset } of sorted) {
    const last = whole.at(-1);
    const follows = last?.pid === pid && last.end === start && last.offset + (last.end - last.start) === offset;
    if (last !== undefined && follows) last.end = end;
    else whole.push({ pid, start, end, offset });
  }
  return whole.map(({ pid, start, end, offset }) => `${pid} ${start} ${end} ${offset}`);
}

/** What was written to an object since it was copied. */
export function writtenTo(copy: SharedCopy): PageRange[] {
  return inCopy(
    copy,
    copy.mappings.flatMap((mapping) => writtenIn(mapping, false)),
  );
}

/** A process ended or did not stop. */
export class Gone extends Error {}

/** Whether an error says that a process has ended, or a mapping of it is gone. */
export function isGone(error: unknown): boolean {
  return error instanceof Gone || error instanceof KernelError || (error instanceof Error && "errno" in error);
}
