/**
 * Page images as they are read: which pages there are, and where their bytes lie in the raw image.
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

/** Pages [start, end) in ascending order; their bytes begin at `offset` of the raw image. */
export interface StoredRun {
  readonly start: bigint;
  readonly end: bigint;
  readonly offset: bigint;
}

/** The pages of one address space or object. */
export interface PageSource {
  /** Name of the pagemap image, for messages. */
  readonly file: string;
  /** The raw image; -1 when no page is stored. */
  readonly fd: Fd;
  readonly runs: readonly StoredRun[];
}

/** Reads and checks a pagemap: order, lengths, and that the raw image is long enough. A missing one has no pages. */
export function openPageSource(images: ImageSource, of: { kind: "PAGEMAP" | "SHMEM_PAGEMAP"; id: number | bigint }): PageSource {
  const file = imageFileName(of.kind, [of.id]);
  if (!images.exists(of.kind, [of.id])) return { file, fd: -1, runs: [] };
  const { head, records } = images.headed(of.kind, [of.id], { head: pagemapHead, record: pagemapEntry });
  if (head === undefined) throw bad(file, "pages_id", "it has no head");
  const runs: StoredRun[] = [];
  let offset = 0n;
  let lastEnd = 0n;
  for (const entry of records) {
    const run = runOf(entry, file, { offset, lastEnd });
    runs.push(run);
    offset += run.end - run.start;
    lastEnd = run.end;
  }
  const raw = `pages-${head.pages_id}.img`;
  if (runs.length === 0 && !images.exists("PAGES", [head.pages_id])) return { file, fd: -1, runs };
  const fd = images.rawFile(raw);
  const size = fstatSync(fd, { bigint: true }).size;
  // More bytes than pages: the end of the pagemap is missing.
  if (size !== offset) throw bad(size < offset ? raw : file, undefined, `${raw} has ${size} bytes, ${file} speaks of ${offset}`);
  return { file, fd, runs };
}

function runOf(entry: PagemapEntry, file: string, at: { offset: bigint; lastEnd: bigint }): StoredRun {
  const pages = entry.nr_pages ?? BigInt(entry.compat_nr_pages);
  const end = entry.vaddr + pages * PAGE;
  if (entry.vaddr % PAGE !== 0n || pages === 0n || end > 1n << 63n)
    throw bad(file, "vaddr", `0x${entry.vaddr.toString(16)} with ${pages} pages is impossible`);
  if (entry.vaddr < at.lastEnd) throw bad(file, "vaddr", `0x${entry.vaddr.toString(16)} lies below the end of the entry before`);
  if (entry.in_parent === true || ((entry.flags ?? 0) & PAGE_RUN.IN_PARENT) !== 0) {
    throw bad(file, "flags", "its pages are in a parent image, and chains of images are not read yet");
  }
  // Images of old versions have no flags: all their pages are there.
  if (entry.flags !== undefined && (entry.flags & PAGE_RUN.PRESENT) === 0) {
    throw bad(file, "flags", "its pages are with whoever serves them (--lazy-pages), which is not built yet");
  }
  return { start: entry.vaddr, end, offset: at.offset };
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
export function storedBytes(source: PageSource): bigint {
  const last = source.runs.at(-1);
  return last === undefined ? 0n : last.offset + (last.end - last.start);
}
