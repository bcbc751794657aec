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
import type { DumpSession, DumpTask, Fd, ImageSource } from "../part.js";
import { areaKind } from "./area.js";
import { HUGETLBFS_MAGIC, dumpedInodes, isDumpedAsFile, sharedMemoryId } from "./memfd-dump.js";
import { pagesOfParent, thin } from "./increment.js";
import type { PageFigures } from "./pages.js";
import type { PageRange } from "./page-runs.js";
import { pagemapEntry, pagemapHead } from "./pagemap.schema.js";
import { PAGE_RUN, type StoredRun, openPageSource, pageRun } from "./page-source.js";

const PAGE = 4096n;
const MAX_SENDFILE = 0x7ffff000n;

/** Saves every shared anonymous object that a task maps, once. */
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
      saveFile(path, kind === "sysv" ? vma.inode : sharedMemoryId(vma.inode, session));
    }
  }
  for (const inode of dumpedInodes(session)) saveFile(inode.procPath, BigInt(inode.shmid));

  function saveFile(path: string, shmid: bigint): void {
    const fd = openSync(path, constants.O_RDONLY);
    try {
      saveObject(fd, shmid, { session, pagesId: nextPagesId(), figures });
    } finally {
      closeSync(fd);
    }
  }
}

function saveObject(fd: Fd, shmid: bigint, to: { session: DumpSession; pagesId: number; figures: PageFigures }): void {
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
  describeObject(runs, { shmid, pages, ...to });
}

/** Writes the pagemap; where there are images of a dump before, pages that are equal there are left to those. */
function describeObject(
  runs: readonly PageRange[],
  { shmid, pages, session, figures }: { shmid: bigint; pages: Fd; session: DumpSession; figures: PageFigures },
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
      for (const { start, end, inParent } of thin(pages, whole, before)) describe(start, end, inParent);
    });
}

/** Files of huge pages know neither sendfile(2) nor holes. Reading makes no pages where there are none, and gives zeros. */
function saveHuge(
  fd: Fd,
  pageBytes: number,
  to: { shmid: bigint; pages: Fd; size: bigint; session: DumpSession; figures: PageFigures },
): void {
  const page = Buffer.alloc(pageBytes);
  const zeros = Buffer.alloc(pageBytes);
  const runs: PageRange[] = [];
  for (let at = 0n; at < to.size; at += BigInt(pageBytes)) {
    if (readSync(fd, page, 0, pageBytes, at) !== pageBytes) throw new Error("internal error: a huge page was not read as a whole");
    if (page.equals(zeros)) continue;
    runs.push({ start: at, end: at + BigInt(pageBytes) });
    for (let done = 0; done < pageBytes; ) done += writeSync(to.pages, page, done);
  }
  describeObject(runs, to);
}

/** sendfile(2) until `bytes` have moved; goes on where `to` stands. */
function sendRange(move: { from: Fd; offset: bigint; to: Fd; bytes: bigint }): void {
  for (let done = 0n; done < move.bytes; ) {
    const want = move.bytes - done < MAX_SENDFILE ? move.bytes - done : MAX_SENDFILE;
    const moved = sendfile(move.to, { fd: move.from, offset: move.offset + done }, Number(want));
    if (moved === 0) throw new Error(`internal error: sendfile moved nothing, ${move.bytes - done} bytes are left`);
    done += BigInt(moved);
  }
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
    sendRange({ from: run.fd, offset: run.offset, to: fd, bytes: end - run.start });
  }
}

/** Files of huge pages cannot be written, only mapped. */
function fillHuge(fd: Fd, pageBytes: bigint, run: StoredRun): void {
  const offset = run.start - (run.start % pageBytes);
  const sizeBytes = ((run.end - offset + pageBytes - 1n) / pageBytes) * pageBytes;
  const address = mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd, offset });
  try {
    const window = ownMemory({ address, sizeBytes }).subarray(Number(run.start - offset), Number(run.end - offset));
    for (let at = 0; at < window.length; ) {
      const got = readSync(run.fd, window, at, Math.min(window.length - at, 1 << 30), run.offset + BigInt(at));
      if (got === 0) throw new Error("internal error: a page image ended while it was read");
      at += got;
    }
  } finally {
    munmap({ address, sizeBytes });
  }
}
