/**
 * Address spaces as images have them: read, checked, and looked at for room.
 */
import { ImageError, Refusal } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import type { ImageSource, Problem, RestoreSession } from "../part.js";
import { regularFiles } from "../files/regular.js";
import { checkSegment } from "../ipc/shm.js";
import { AREA, TASK_END, isOrdinary } from "./area.js";
import { memfds } from "./memfd.js";
import { type MmEntry, mmEntry } from "./mm.schema.js";
import { type PageSource, openPageSource } from "./page-source.js";
import { splitLazy } from "./lazy.js";
import { checkPolicies } from "./policies.js";
import type { Jump } from "./vdso-other.js";
import { isCompat } from "../tasks/compat.js";
import type { CoreEntry } from "../tasks/core.schema.js";
import type { VmaEntry } from "./vma.schema.js";

const PAGE = 4096n;
/** Lowest address that may be used for the seed; well above vm.mmap_min_addr. */
const LOWEST = 0x10000n;

/** The saved address space of one process. */
export interface SavedSpace {
  readonly pid: number;
  readonly comm: string;
  readonly mm: MmEntry;
  /** Contents that are there before it goes on. */
  readonly pages: PageSource;
  /** Mappings some contents of which come later (lazy.ts). */
  readonly later: readonly VmaEntry[];
  /** Where the kernel's own pages were; those of another build are given a new place (adoptVdsos). */
  vvar: VmaEntry | undefined;
  vdso: VmaEntry | undefined;
  /** What is written over the code of a vdso of another build. */
  jumps: readonly Jump[];
  /** Whether it is a 32-bit process, whose vdso is another one. */
  readonly isCompat: boolean;
}

/** Reads the address space of a process; structural damage is thrown as ImageError. */
export function readSpace(images: ImageSource, process: { pid: number; comm: string; core: CoreEntry }, isLazy = false): SavedSpace {
  const mm = images.single("MM", [process.pid], mmEntry);
  checkOrder(mm.vmas, imageFileName("MM", [process.pid]));
  checkPolicies(mm, imageFileName("MM", [process.pid]));
  const all = openPageSource(images, { kind: "PAGEMAP", id: process.pid });
  checkRuns(all, mm.vmas);
  const { now: pages, later } = isLazy ? splitLazy(all, mm.vmas) : { now: all, later: [] };
  refuseAbsent(pages);
  return {
    pid: process.pid,
    comm: process.comm,
    isCompat: isCompat(process.core),
    mm,
    pages,
    later,
    vvar: mm.vmas.find((v) => v.status & AREA.VVAR),
    vdso: mm.vmas.find((v) => v.status & AREA.VDSO),
    jumps: [],
  };
}

/** Pages that were left where the process was (a dump with --lazy-pages). */
function refuseAbsent({ file, absent }: PageSource): void {
  const [first] = absent;
  if (first === undefined) return;
  throw new ImageError({
    code: "IMAGE_PAGES_ELSEWHERE",
    place: { file, message: "pagemap_entry", field: "flags" },
    because: `the pages at 0x${first.start.toString(16)} are with whoever serves them: it was dumped with --lazy-pages`,
    remedy: ["Restore with --lazy-pages and a daemon that fetches them: criu lazy-pages --page-server --address … --port …"],
  });
}

function checkOrder(vmas: readonly VmaEntry[], file: string): void {
  let last = 0n;
  for (const { start, end, status } of vmas) {
    if (status & AREA.GUARD) continue;
    const because =
      start % PAGE !== 0n || end % PAGE !== 0n || start >= end
        ? "is no range of pages"
        : start < last
          ? "lies below the one before"
          : end > TASK_END && (status & AREA.VSYSCALL) === 0
            ? "is outside the address space"
            : undefined;
    if (because !== undefined) {
      throw new ImageError({
        code: "IMAGE_BAD_MAPPING",
        place: { file, message: "mm_entry", field: "vmas" },
        because: `mapping ${start.toString(16)}-${end.toString(16)} ${because}`,
        remedy: ["Use an intact copy of the images directory", "Dump the process again"],
      });
    }
    last = end;
  }
}

/** Every page of the image has to lie in a mapping; neighbouring mappings may share a run. Both are in ascending order. */
function checkRuns(pages: PageSource, vmas: readonly VmaEntry[]): void {
  let at = 0;
  for (const run of pages.runs) {
    for (let start = run.start; start < run.end; ) {
      while ((vmas[at]?.end ?? 1n << 64n) <= start) at++;
      const vma = vmas[at];
      if (vma === undefined || vma.start > start) {
        throw new ImageError({
          code: "IMAGE_BAD_PAGEMAP",
          place: { file: pages.file, message: "pagemap_entry", field: "vaddr" },
          because: `the page at 0x${start.toString(16)} lies in no mapping`,
          remedy: ["Use an intact copy of the images directory", "Dump the process again"],
        });
      }
      start = vma.end;
    }
  }
}

/** Kinds of mapping that can be made. */
const RESTORABLE = AREA.FILE_PRIVATE | AREA.FILE_SHARED | AREA.ANON_PRIVATE | AREA.ANON_SHARED | AREA.AIO | AREA.SOCKET;

/** What certainly cannot be restored of an address space. */
export function checkSpace(space: SavedSpace, session: RestoreSession): Problem[] {
  const problems: Problem[] = [];
  const process = { pid: space.pid, comm: space.comm };
  const seen = new Set<bigint>();
  const refuse = (resource: string, because: string, remedy: string) =>
    problems.push(new Refusal({ code: "MAPPING_NOT_RESTORABLE", process, resource, because, remedy: [remedy] }, "restore"));
  for (const vma of space.mm.vmas) {
    const what = `mapping ${vma.start.toString(16)}-${vma.end.toString(16)}`;
    if (!isOrdinary(vma)) continue;
    if ((vma.status & RESTORABLE) === 0) {
      refuse(
        what,
        `mappings of this kind (status 0x${vma.status.toString(16)}) are not restored yet`,
        "Restore with the tool that made the images",
      );
      continue;
    }
    if (vma.status & AREA.SOCKET && session.fileEntry(Number(vma.shmid))?.psk === undefined)
      refuse(what, `files.img has no packet socket ${vma.shmid} for it`, "Dump the process again");
    if (vma.status & AREA.SYSV) problems.push(...checkSegment(Number(vma.shmid), session, { process, what }));
    if ((vma.status & (AREA.FILE_PRIVATE | AREA.FILE_SHARED)) === 0 || seen.has(vma.shmid)) continue;
    seen.add(vma.shmid);
    problems.push(...checkMappedFile(vma, what, { session, process }));
  }
  const entry = session.fileEntry(space.mm.exe_file_id);
  const exe = entry?.reg ?? entry?.memfd;
  if (exe === undefined) refuse("its executable", `files.img has no regular file ${space.mm.exe_file_id}`, "Dump the process again");
  return problems;
}

function checkMappedFile(vma: VmaEntry, what: string, on: { session: RestoreSession; process: { pid: number; comm: string } }): Problem[] {
  const entry = on.session.fileEntry(Number(vma.shmid));
  if (entry?.reg !== undefined) return regularFiles.check?.(entry.reg, on.session, { process: on.process, what: "the mapped file" }) ?? [];
  if (entry?.memfd !== undefined) return memfds.check?.(entry.memfd, on.session, { process: on.process, what }) ?? [];
  const because = `files.img has no file ${vma.shmid} for it`;
  return [
    new Refusal(
      { code: "MAPPING_NOT_RESTORABLE", process: on.process, resource: what, because, remedy: ["Dump the process again"] },
      "restore",
    ),
  ];
}

/** An address from which `bytes` are free in every one of `spaces`; undefined when there is none. */
export function findRoom(spaces: readonly SavedSpace[], bytes: bigint): bigint | undefined {
  // The page of vsyscalls lies where nothing else can be.
  const all = spaces
    .flatMap((s) => s.mm.vmas.filter(({ start }) => start < TASK_END))
    .sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  let at = LOWEST;
  for (const { start, end } of all) {
    if (start - at >= bytes && start > at) return at;
    if (end > at) at = end;
  }
  return at + bytes <= TASK_END ? at : undefined;
}
