/**
 * Page images as they are read: which pages there are, and where their bytes lie: in the raw image, or in that of a parent.
 */
import { fstatSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import type { Fd, ImageSource } from "../part.js";
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

/** Pages [start, end) in ascending order; their bytes begin at `offset` of the raw image `fd`. */
export interface StoredRun {
  readonly start: bigint;
  readonly end: bigint;
  readonly fd: Fd;
  readonly offset: bigint;
}

/** The pages of one address space or object. */
export interface PageSource {
  /** Name of the pagemap image, for messages. */
  readonly file: string;
  readonly runs: readonly StoredRun[];
}

/** Which pagemap: of a process, or of a shared object. */
export interface PagemapName {
  readonly kind: "PAGEMAP" | "SHMEM_PAGEMAP";
  readonly id: number | bigint;
}

/** Reads and checks a pagemap: order, lengths, and that the raw image is long enough. A missing one has no pages. */
export function openPageSource(images: ImageSource, of: PagemapName): PageSource {
  const file = imageFileName(of.kind, [of.id]);
  if (!images.exists(of.kind, [of.id])) return { file, runs: [] };
  const { head, records } = images.headed(of.kind, [of.id], { head: pagemapHead, record: pagemapEntry });
  if (head === undefined) throw bad(file, "pages_id", "it has no head");
  const raw = `pages-${head.pages_id}.img`;
  const isStored = records.some((entry) => !isInParent(entry)) || images.exists("PAGES", [head.pages_id]);
  const fd = isStored ? images.rawFile(raw) : -1;
  const parent = records.some(isInParent) ? openParent(images, of) : undefined;
  const runs: StoredRun[] = [];
  let offset = 0n;
  let lastEnd = 0n;
  for (const entry of records) {
    const { start, end } = rangeOf(entry, file, lastEnd);
    if (parent !== undefined && isInParent(entry)) runs.push(...parent.take(start, end, file));
    else {
      runs.push({ start, end, fd, offset });
      offset += end - start;
    }
    lastEnd = end;
  }
  const size = isStored ? fstatSync(fd, { bigint: true }).size : 0n;
  // More bytes than pages: the end of the pagemap is missing.
  if (size !== offset) throw bad(size < offset ? raw : file, undefined, `${raw} has ${size} bytes, ${file} speaks of ${offset}`);
  return { file, runs };
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
  return { start, end, fd: run.fd, offset: run.offset + (start - run.start) };
}

function rangeOf(entry: PagemapEntry, file: string, lastEnd: bigint): { start: bigint; end: bigint } {
  const pages = entry.nr_pages ?? BigInt(entry.compat_nr_pages);
  const end = entry.vaddr + pages * PAGE;
  if (entry.vaddr % PAGE !== 0n || pages === 0n || end > 1n << 63n)
    throw bad(file, "vaddr", `0x${entry.vaddr.toString(16)} with ${pages} pages is impossible`);
  if (entry.vaddr < lastEnd) throw bad(file, "vaddr", `0x${entry.vaddr.toString(16)} lies below the end of the entry before`);
  // Images of old versions have no flags: all their pages are there.
  if (entry.flags !== undefined && (entry.flags & (PAGE_RUN.PRESENT | PAGE_RUN.IN_PARENT)) === 0) {
    throw bad(file, "flags", "its pages are with whoever serves them (--lazy-pages), which is not built yet");
  }
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
