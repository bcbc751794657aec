/**
 * Page images as they are read: which pages there are, and where their bytes lie: in the raw image, or in that of a parent.
 */
import { readSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import type { PageFile, PagePiece } from "../../images/page-file.js";
import type { Fd, ImageSource } from "../part.js";
import type { PageRange } from "./page-runs.js";
import { type PagemapEntry, pagemapEntry, pagemapHead } from "./pagemap.schema.js";

const PAGE = 4096n;
const MAX_U32 = 0xffffffffn;
/** pagemap_entry.flags */
export const PAGE_RUN = { IN_PARENT: 1, LAZY: 2, PRESENT: 4 } as const;

/** The entry for [start, end). The 32-bit count is what every reader knows; the 64-bit one is only for what does not fit. */
export function pageRun(start: bigint, end: bigint, flags: number): PagemapEntry {
  const pages = (end - start) / PAGE;
  const entry: PagemapEntry = { vaddr: start, compat_nr_pages: pages <= MAX_U32 ? Number(pages) : 0, flags };
  if (pages > MAX_U32) entry.nr_pages = pages;
  return entry;
}

/**
 * Pages [start, end) in ascending order; their bytes begin at `offset` of `file`.
 *
 * The file may hold them compressed: read them with {@link readPages}, or ask for their place with {@link placeOf} right
 * before the kernel is to move them, and say {@link doneWith} afterwards.
 */
export interface StoredRun {
  readonly start: bigint;
  readonly end: bigint;
  readonly file: PageFile;
  readonly offset: bigint;
  /** May be filled in after the process has been restored. */
  readonly lazy: boolean;
}

/** Where the bytes of a run can be read now, as they are: for preadv, sendfile or a mapping. */
export function placeOf({ start, end, file, offset }: StoredRun): { readonly fd: Fd; readonly offset: bigint } {
  file.ready(offset, end - start);
  return { fd: file.fd, offset };
}

/** The bytes of a run will not be asked for again soon. */
export function doneWith({ start, end, file, offset }: StoredRun): void {
  file.done(offset, end - start);
}

/** Reads the page bytes from address `at` of a run on into all of `into`. */
export function readPages(run: StoredRun, at: bigint, into: Uint8Array): void {
  const place = placeOf(partOf(run, at, at + BigInt(into.length)));
  for (let done = 0; done < into.length; ) {
    const got = readSync(place.fd, into, done, Math.min(into.length - done, 1 << 30), place.offset + BigInt(done));
    if (got === 0) throw new Error(`internal error: ${run.file.name} ended while it was read`);
    done += got;
  }
}

/** The pages of one address space or object. */
export interface PageSource {
  /** Name of the pagemap image, for messages. */
  readonly file: string;
  readonly runs: readonly StoredRun[];
  /** Pages that are with whoever serves them (a dump with --lazy-pages), ascending. */
  readonly absent: readonly PageRange[];
}

/** Which pagemap: of a process, or of a shared object. */
export interface PagemapName {
  readonly kind: "PAGEMAP" | "SHMEM_PAGEMAP";
  readonly id: number | bigint;
}

/** Reads and checks a pagemap: order, lengths, and that the raw image is long enough. A missing one has no pages. */
export function openPageSource(images: ImageSource, of: PagemapName): PageSource {
  const file = imageFileName(of.kind, [of.id]);
  if (!images.exists(of.kind, [of.id])) return { file, runs: [], absent: [] };
  const { head, records } = images.headed(of.kind, [of.id], { head: pagemapHead, record: pagemapEntry });
  if (head === undefined) throw bad(file, "pages_id", "it has no head");
  const isStored = records.some((entry) => !isInParent(entry) && !isAbsent(entry)) || images.hasPages(head.pages_id);
  const stored = isStored ? images.pages(head.pages_id) : undefined;
  const parent = records.some(isInParent) ? openParent(images, of) : undefined;
  const runs: StoredRun[] = [];
  const absent: PageRange[] = [];
  let offset = 0n;
  let lastEnd = 0n;
  for (const entry of records) {
    const { start, end } = rangeOf(entry, file, lastEnd);
    const lazy = ((entry.flags ?? 0) & PAGE_RUN.LAZY) !== 0;
    if (isAbsent(entry)) absent.push({ start, end });
    else if (parent !== undefined && isInParent(entry)) runs.push(...parent.take(start, end, file).map((run) => ({ ...run, lazy })));
    else if (stored !== undefined) {
      runs.push(...placed(stored.at(offset, end - start), { start, lazy }));
      offset += end - start;
    }
    lastEnd = end;
  }
  const size = stored?.sizeBytes ?? 0n;
  const raw = stored?.name ?? file;
  // More bytes than pages: the end of the pagemap is missing.
  if (size !== offset) throw bad(size < offset ? raw : file, undefined, `${raw} has ${size} bytes, ${file} speaks of ${offset}`);
  return { file, runs, absent };
}

/** Images of old versions have no flags: all their pages are there. */
function isAbsent({ flags }: PagemapEntry): boolean {
  return flags !== undefined && (flags & (PAGE_RUN.PRESENT | PAGE_RUN.IN_PARENT)) === 0;
}

/** Pages from `start` on as runs, by where their bytes are. */
function placed(pieces: readonly PagePiece[], { start, lazy }: { readonly start: bigint; readonly lazy: boolean }): StoredRun[] {
  let at = start;
  return pieces.map(({ file, offset, sizeBytes }) => {
    const run = { start: at, end: at + sizeBytes, file, offset, lazy };
    at = run.end;
    return run;
  });
}

function isInParent(entry: PagemapEntry): boolean {
  return entry.in_parent === true || ((entry.flags ?? 0) & PAGE_RUN.IN_PARENT) !== 0;
}

function openParent(images: ImageSource, of: PagemapName): ParentPages {
  const file = imageFileName(of.kind, [of.id]);
  const parent = images.parent();
  if (parent === undefined)
    throw bad(file, "flags", "pages are in the images of the dump before, and there is no link named parent to them");
  return new ParentPages(openPageSource(parent, of).runs);
}

/** Pages of a parent, which are asked for in ascending order. */
class ParentPages {
  readonly #runs: readonly StoredRun[];
  #at = 0;

  constructor(runs: readonly StoredRun[]) {
    this.#runs = runs;
  }

  take(start: bigint, end: bigint, file: string): StoredRun[] {
    const taken: StoredRun[] = [];
    for (let from = start; from < end; ) {
      const run = this.#runs[this.#at];
      if (run !== undefined && run.end <= from) {
        this.#at++;
        continue;
      }
      if (run === undefined || run.start > from)
        throw bad(file, "flags", `page 0x${from.toString(16)} should be in the images of the dump before, and is not there`);
      const to = run.end < end ? run.end : end;
      taken.push(partOf(run, from, to));
      from = to;
    }
    return taken;
  }
}

/** The pages [start, end) of a run. */
export function partOf(run: StoredRun, start: bigint, end: bigint): StoredRun {
  return { ...run, start, end, offset: run.offset + (start - run.start) };
}

function rangeOf(entry: PagemapEntry, file: string, lastEnd: bigint): { start: bigint; end: bigint } {
  const pages = entry.nr_pages ?? BigInt(entry.compat_nr_pages);
  const end = entry.vaddr + pages * PAGE;
  if (entry.vaddr % PAGE !== 0n || pages === 0n || end > 1n << 63n)
    throw bad(file, "vaddr", `0x${entry.vaddr.toString(16)} with ${pages} pages is impossible`);
  if (entry.vaddr < lastEnd) throw bad(file, "vaddr", `0x${entry.vaddr.toString(16)} lies below the end of the entry before`);
  if (isAbsent(entry) && ((entry.flags ?? 0) & PAGE_RUN.LAZY) === 0) throw bad(file, "flags", "its pages are nowhere");
  return { start: entry.vaddr, end };
}

function bad(file: string, field: string | undefined, because: string): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_PAGEMAP",
    place: { file, ...(field === undefined ? {} : { message: "pagemap_entry", field }) },
    because,
    remedy: ["Use an intact copy of the images directory", "Dump the process again"],
  });
}

/** Bytes of all pages of a source. */
export function storedBytes({ runs }: PageSource): bigint {
  return runs.reduce((sum, { start, end }) => sum + (end - start), 0n);
}
