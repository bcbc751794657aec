/**
 * Shared anonymous memory: one object, mapped by any number of tasks.
 *
 * Saved from  the object itself, opened through /proc/PID/map_files: its pages by lseek(SEEK_DATA), copied by sendfile(2)
 * Made with   mmap(MAP_SHARED | MAP_ANONYMOUS) in Floe and map_files again, which gives a descriptor that can be handed on
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { SEEK_DATA, SEEK_HOLE, SEEK_SET, fstatfs, lseek, sendfile } from "../../linux/files.js";
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap, ownMemory } from "../../linux/memory.js";
import { takeUnattached } from "../ipc/shm.js";
import type { DumpSession, DumpTask, Fd, ImageSource } from "../part.js";
import { areaKind } from "./area.js";
import { HUGETLBFS_MAGIC, dumpedInodes, isDumpedAsFile, sharedMemoryId } from "./memfd-dump.js";
import { distinctPlaces, pagesOfParent, thin } from "./increment.js";
import { difference, intersection, union } from "./page-ranges.js";
import { bytesOf, copyRanges } from "./precopy.js";
import { Assembly } from "./precopy-assembly.js";
import { type TakenShared, dataOf, sharedKey, shifted } from "./shared-precopy.js";
import type { PageFigures } from "./pages.js";
import type { PageRange } from "./page-runs.js";
import { pagemapEntry, pagemapHead } from "./pagemap.schema.js";
import { PAGE_RUN, type StoredRun, doneWith, openPageSource, pageRun, placeOf, readPages } from "./page-source.js";

const PAGE = 4096n;
const MAX_SENDFILE = 0x7ffff000n;

/** Saves every shared anonymous object that a task maps, once, and segments that nobody has attached. */
export function saveSharedMemory(
  tasks: readonly DumpTask[],
  session: DumpSession,
  { figures, nextPagesId }: { figures: PageFigures; nextPagesId: () => number },
): void {
  const seen = new Set<bigint>();
  for (const task of tasks) {
    for (const vma of task.vmas) {
      const kind = areaKind(vma);
      if ((kind !== "shared-anonymous" && kind !== "sysv") || seen.has(vma.inode) || isDumpedAsFile(vma, session)) continue;
      seen.add(vma.inode);
      const path = `/proc/${task.traced.pid}/map_files/${vma.start.toString(16)}-${vma.end.toString(16)}`;
      const isSegment = kind === "sysv";
      saveFile(path, isSegment ? vma.inode : sharedMemoryId(vma.inode, session), isSegment);
    }
  }
  for (const inode of dumpedInodes(session)) saveFile(inode.procPath, BigInt(inode.shmid), false);
  for (const { id, fd } of takeUnattached(session)) saveOpen(fd, BigInt(id), true);

  function saveFile(path: string, shmid: bigint, isSegment: boolean): void {
    saveOpen(openSync(path, constants.O_RDONLY), shmid, isSegment);
  }

  function saveOpen(fd: Fd, shmid: bigint, isSegment: boolean): void {
    try {
      const to = { session, pagesId: nextPagesId(), figures };
      const ahead = session.sharedAhead?.take(sharedKey(isSegment, fstatSync(fd, { bigint: true })), tasks);
      if (ahead === undefined) saveObject(fd, shmid, to);
      else saveWritten(ahead, shmid, to);
    } finally {
      closeSync(fd);
    }
  }
}

/** Where the pages of an object go. */
export interface ToSave {
  readonly session: Pick<DumpSession, "images" | "parent" | "later">;
  readonly pagesId: number;
  readonly figures: PageFigures;
}

/** Saves the pages of the object behind `fd`. What it has lost meanwhile, if it can, is saved as zeros. */
export function saveObject(fd: Fd, shmid: bigint, to: ToSave): void {
  const { images } = to.session;
  const pages = images.rawFile(`pages-${to.pagesId}.img`);
  images.append("SHMEM_PAGEMAP", [shmid], { type: pagemapHead, value: { pages_id: to.pagesId } });
  const bytes = BigInt(fstatSync(fd).size);
  const size = (bytes + PAGE - 1n) & ~(PAGE - 1n);
  to.figures.sharedScanned += Number(size / PAGE);
  const fs = fstatfs(fd);
  if (fs.type === HUGETLBFS_MAGIC) {
    saveHuge(fd, Number(fs.blockSizeBytes), { shmid, pages, size, ...to });
    return;
  }
  const runs: PageRange[] = [];
  for (let at = 0n; at < size; ) {
    const data = lseek(fd, at, SEEK_DATA);
    if (data === undefined) break;
    const start = BigInt(data) & ~(PAGE - 1n);
    const end = (BigInt(lseek(fd, start, SEEK_HOLE) ?? Number(size)) + PAGE - 1n) & ~(PAGE - 1n);
    runs.push({ start, end });
    const inside = end > bytes ? bytes : end;
    sendRange({ from: fd, offset: start, to: pages, bytes: inside - start });
    if (inside < end) writeSync(pages, new Uint8Array(Number(end - inside)));
    at = end;
  }
  describeObject(runs, { shmid, pages: () => pages, ...to });
}

/** Saves an object that was copied ahead: reads what was written since, and makes one image of both afterwards. */
function saveWritten({ copy, written }: TakenShared, shmid: bigint, to: ToSave): void {
  const { images } = to.session;
  const { address, copied, fd, sizeBytes } = copy;
  const restFd = images.scratch();
  if (restFd === undefined) throw new Error("internal error: memory was copied ahead without files without names");
  images.append("SHMEM_PAGEMAP", [shmid], { type: pagemapHead, value: { pages_id: to.pagesId } });
  to.figures.sharedScanned += Number(sizeBytes / PAGE);
  // Where there was no page there may be one now.
  const fresh = dataOf(
    fd,
    difference(written, copied.layout).map((range) => shifted(range, -address)),
  ).map((range) => shifted(range, address));
  const all = union(copied.layout, fresh);
  const how = { lazy: false, readable: true };
  const runs = [
    ...difference(all, written).map((range) => ({ ...range, ...how, unwritten: true })),
    ...intersection(all, written).map((range) => ({ ...range, ...how, unwritten: false })),
  ];
  runs.sort((a, b) => (a.start < b.start ? -1 : 1));
  const assembly = new Assembly(runs, copied, restFd);
  const rest = assembly.rest;
  const got = copyRanges(process.pid, rest, { layout: distinctPlaces(rest), fd: restFd, isShared: false });
  if (bytesOf(got) !== bytesOf(rest)) throw new Error("internal error: shared memory was not read as a whole");
  const name = `pages-${to.pagesId}.img`;
  to.session.later(() => assembly.finish(images, name));
  describeObject(
    all.map((range) => shifted(range, -address)),
    { shmid, pages: () => images.rawFile(name), ...to },
  );
}

/** Writes the pagemap; where there are images of a dump before, pages that are equal there are left to those. */
function describeObject(
  runs: readonly PageRange[],
  { shmid, pages, session, figures }: { shmid: bigint; pages: () => Fd } & Omit<ToSave, "pagesId">,
): void {
  const { images, parent } = session;
  const describe = (start: bigint, end: bigint, inParent: boolean) => {
    const flags = inParent ? PAGE_RUN.IN_PARENT : PAGE_RUN.PRESENT;
    images.append("SHMEM_PAGEMAP", [shmid], { type: pagemapEntry, value: pageRun(start, end, flags) });
    figures[inParent ? "sharedSkipped" : "sharedWritten"] += Number((end - start) / PAGE);
  };
  if (parent === undefined) for (const { start, end } of runs) describe(start, end, false);
  else
    session.later(() => {
      const before = pagesOfParent(parent, { kind: "SHMEM_PAGEMAP", id: shmid });
      const whole = runs.map((run) => ({ ...run, lazy: false }));
      for (const { start, end, inParent } of thin(pages(), whole, before)) describe(start, end, inParent);
    });
}

/** Files of huge pages know neither sendfile(2) nor holes. Reading makes no pages where there are none, and gives zeros. */
function saveHuge(fd: Fd, pageBytes: number, to: { shmid: bigint; pages: Fd; size: bigint } & Omit<ToSave, "pagesId">): void {
  const page = Buffer.alloc(pageBytes);
  const zeros = Buffer.alloc(pageBytes);
  const runs: PageRange[] = [];
  for (let at = 0n; at < to.size; at += BigInt(pageBytes)) {
    if (readSync(fd, page, 0, pageBytes, at) !== pageBytes) throw new Error("internal error: a huge page was not read as a whole");
    if (page.equals(zeros)) continue;
    runs.push({ start: at, end: at + BigInt(pageBytes) });
    for (let done = 0; done < pageBytes; ) done += writeSync(to.pages, page, done);
  }
  describeObject(runs, { ...to, pages: () => to.pages });
}

/** sendfile(2) until `bytes` have moved; goes on where `to` stands. */
function sendRange(move: { from: Fd; offset: bigint; to: Fd; bytes: bigint }): void {
  for (let done = 0n; done < move.bytes; ) {
    const want = move.bytes - done < MAX_SENDFILE ? move.bytes - done : MAX_SENDFILE;
    const moved = sendfile(move.to, { fd: move.from, offset: move.offset + done }, Number(want));
    if (moved === 0) {
      writeZeros(move.to, move.bytes - done); // it has become shorter: nobody stands still for a pre-dump
      return;
    }
    done += BigInt(moved);
  }
}

function writeZeros(fd: Fd, bytes: bigint): void {
  const zeros = new Uint8Array(Number(bytes < 1n << 20n ? bytes : 1n << 20n));
  for (let left = Number(bytes); left > 0; ) left -= writeSync(fd, zeros, 0, Math.min(left, zeros.length));
}

/** Makes the shared object `shmid` of `sizeBytes` with its saved contents; returns a descriptor of ours. */
export function makeSharedMemory(images: ImageSource, { shmid, sizeBytes }: { shmid: bigint; sizeBytes: bigint }, moreFlags = 0): Fd {
  const flags = (MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | moreFlags) >>> 0;
  const address = mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags });
  let fd: Fd;
  try {
    fd = openSync(`/proc/self/map_files/${address.toString(16)}-${(address + sizeBytes).toString(16)}`, constants.O_RDWR);
  } finally {
    munmap({ address, sizeBytes });
  }
  try {
    fillShared(fd, images, { shmid, sizeBytes });
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Puts the saved pages of shared object `shmid` into a file, at the offsets that the pagemap gives, and sets its size. */
export function fillShared(fd: Fd, images: ImageSource, { shmid, sizeBytes }: { shmid: bigint; sizeBytes: bigint }): void {
  const source = openPageSource(images, { kind: "SHMEM_PAGEMAP", id: shmid });
  ftruncateSync(fd, Number(sizeBytes));
  const fs = fstatfs(fd);
  const pageBytes = fs.type === HUGETLBFS_MAGIC ? fs.blockSizeBytes : undefined;
  for (const run of source.runs) {
    if (run.end > ((sizeBytes + PAGE - 1n) & ~(PAGE - 1n))) {
      throw new ImageError({
        code: "IMAGE_BAD_REFERENCE",
        place: { file: source.file, message: "pagemap_entry", field: "vaddr" },
        because: `pages up to 0x${run.end.toString(16)} are given for an object of 0x${sizeBytes.toString(16)} bytes`,
        remedy: ["Dump the process again"],
      });
    }
    if (pageBytes !== undefined) {
      fillHuge(fd, pageBytes, run);
      continue;
    }
    const end = run.end > sizeBytes ? sizeBytes : run.end;
    lseek(fd, run.start, SEEK_SET);
    const place = placeOf(run);
    sendRange({ from: place.fd, offset: place.offset, to: fd, bytes: end - run.start });
    doneWith(run);
  }
}

/** Files of huge pages cannot be written, only mapped. */
function fillHuge(fd: Fd, pageBytes: bigint, run: StoredRun): void {
  const offset = run.start - (run.start % pageBytes);
  const sizeBytes = ((run.end - offset + pageBytes - 1n) / pageBytes) * pageBytes;
  const address = mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd, offset });
  try {
    const window = ownMemory({ address, sizeBytes }).subarray(Number(run.start - offset), Number(run.end - offset));
    readPages(run, run.start, window);
    doneWith(run);
  } finally {
    munmap({ address, sizeBytes });
  }
}
