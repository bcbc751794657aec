/**
 * Pages of ranges that a userfaultfd of the process's own watches: which raise a fault, and which do not.
 *
 * Read from   PAGEMAP_SCAN; the entries of /proc/PID/pagemap where a mark and a page that was swapped out have to be told apart
 */
import { closeSync, openSync, readSync } from "node:fs";
import {
  PAGE_IS_PFNZERO,
  PAGE_IS_PRESENT,
  PAGE_IS_SWAPPED,
  PAGE_IS_WRITTEN,
  PM_PRESENT,
  type PageRegion,
  pagemapScan,
} from "../../linux/pagemap.js";
import type { Vma } from "../../linux/proc/maps.js";
import type { PageRange, PageRun } from "./page-runs.js";

const PAGE = 4096n;
const ENTRY_BYTES = 8;
/** linux/swapops.h: the type of an entry that is a mark and no page, the last of 32. */
const MARK_TYPE = 0x1fn;

/** Whether a userfaultfd watches a mapping: for missing pages, for writes, for pages that are not mapped. */
export function isWatched({ flags }: Vma): boolean {
  return flags.has("um") || flags.has("uw") || flags.has("ui");
}

export interface WatchedPages {
  /** There, with nothing in them. */
  readonly zero: PageRange[];
  /** Writing to them raises a fault. */
  readonly protected: PageRange[];
  /** There, whatever is in them. */
  readonly present: PageRange[];
  /** Protected although there is nothing. */
  readonly marks: PageRange[];
}

/** Looks at the pages of a watched mapping. */
export function watchedPages(pid: number, { start, end }: PageRange): WatchedPages {
  const found: WatchedPages = { zero: [], protected: [], present: [], marks: [] };
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    const returned = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO | PAGE_IS_WRITTEN;
    for (const region of pagemapScan(pagemap, { start, end, anyOf: PAGE_IS_PRESENT | PAGE_IS_SWAPPED, returned })) {
      const { categories } = region;
      const isProtected = (categories & PAGE_IS_WRITTEN) === 0n;
      if (isProtected) add(found.protected, region);
      if ((categories & PAGE_IS_PRESENT) !== 0n) add(found.present, region);
      else if (isProtected) for (const mark of marksOf(pagemap, region)) add(found.marks, mark);
      if ((categories & PAGE_IS_PFNZERO) !== 0n && (categories & PAGE_IS_PRESENT) !== 0n) add(found.zero, region);
    }
    return found;
  } finally {
    closeSync(pagemap);
  }
}

function add(ranges: PageRange[], { start, end }: PageRange): void {
  const last = ranges.at(-1);
  if (last?.end === start) ranges[ranges.length - 1] = { start: last.start, end };
  else ranges.push({ start, end });
}

function* marksOf(pagemap: number, { start, end }: PageRegion): Generator<PageRange> {
  const entries = Buffer.alloc(512 * ENTRY_BYTES);
  for (let at = start; at < end; at += 512n * PAGE) {
    const pages = Math.min(512, Number((end - at) / PAGE));
    readSync(pagemap, entries, 0, pages * ENTRY_BYTES, Number(at / PAGE) * ENTRY_BYTES);
    for (let i = 0; i < pages; i++) {
      const entry = entries.readBigUInt64LE(i * ENTRY_BYTES);
      const page = at + BigInt(i) * PAGE;
      if ((entry & PM_PRESENT) === 0n && (entry & MARK_TYPE) === MARK_TYPE) yield { start: page, end: page + PAGE };
    }
  }
}

/** The runs without marks in watched mappings: there is nothing to be read, and whoever reads them raises a fault. */
export function withoutMarks(pid: number, runs: PageRun[], vmas: readonly Vma[]): PageRun[] {
  const watched = vmas.filter((vma) => !vma.shared && isWatched(vma));
  if (watched.length === 0) return runs;
  const marks = watched.flatMap((vma) => watchedPages(pid, vma).marks);
  if (marks.length === 0) return runs;
  return runs.flatMap((run) => {
    const pieces: PageRun[] = [];
    let { start } = run;
    for (const mark of marks) {
      if (mark.end <= start || mark.start >= run.end) continue;
      if (mark.start > start) pieces.push({ ...run, start, end: mark.start });
      start = mark.end;
    }
    return start < run.end ? [...pieces, { ...run, start }] : pieces;
  });
}
