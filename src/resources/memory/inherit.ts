/**
 * Copy-on-write between parent and child: which pages of the child are those of the parent.
 *
 * The images do not say which pages were shared, but equal contents at equal addresses in a mapping that both have can
 * be shared again without a difference to anybody.
 */
import type { PageFile } from "../../images/page-file.js";
import { type PageSource, type StoredRun, partOf, readPages } from "./page-source.js";

const PAGE = 4096;
const CHUNK_BYTES = 256 << 10;
/** From this much on threads of their own are worth their start. */
const MANY_BYTES = 8 << 20;

export interface PageRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** Answer of {@link compareWithParent}. */
export interface Comparison {
  /** What has to be read into the child: all it has but the pages that equal the parent's. */
  readonly needed: readonly StoredRun[];
  /** Pages of the parent in these areas that the child does not have. */
  readonly stale: readonly PageRange[];
  readonly figures: { compared: number; equal: number };
}

/** Compares the pages of a child with its parent's inside `areas`, which it has from its parent (ascending). */
export function compareWithParent(
  of: { parent: PageSource; child: PageSource; areas: readonly PageRange[] },
  pages: PageComparison,
): Comparison {
  const parentRuns = clip(of.parent.runs, of.areas);
  const childInside = clip(of.child.runs, of.areas);
  const needed: StoredRun[] = [...without(of.child.runs, of.areas)];
  const pairs: PagePair[] = [];
  walk();
  const compared = pairs.reduce((sum, { child }) => sum + Number(child.end - child.start) / PAGE, 0);
  const equal = pages.differing(pairs, (piece) => needed.push(piece));
  needed.sort((a, b) => (a.start < b.start ? -1 : 1));
  return { needed, stale: holes(parentRuns, childInside), figures: { compared, equal } };

  function walk(): void {
    let at = 0;
    for (const run of childInside) {
      let start = run.start;
      while (start < run.end) {
        while ((parentRuns[at]?.end ?? 1n << 64n) <= start) at++;
        const parent = parentRuns[at];
        const apart = parent === undefined || parent.start >= run.end ? run.end : parent.start;
        if (apart > start) {
          needed.push(partOf(run, start, apart));
          start = apart;
          continue;
        }
        if (parent === undefined) break;
        const most = start + BigInt(CHUNK_BYTES);
        const both = parent.end < run.end ? parent.end : run.end;
        const end = both < most ? both : most;
        pairs.push({ parent: partOf(parent, start, end), child: partOf(run, start, end) });
        start = end;
      }
    }
  }
}

/** The parts of `runs` inside `areas`; both ascending. */
export function clip(runs: readonly StoredRun[], areas: readonly PageRange[]): StoredRun[] {
  const out: StoredRun[] = [];
  let at = 0;
  for (const run of runs) {
    while ((areas[at]?.end ?? 1n << 64n) <= run.start) at++;
    for (let k = at; k < areas.length; k++) {
      const area = areas[k] as PageRange;
      if (area.start >= run.end) break;
      out.push(partOf(run, area.start > run.start ? area.start : run.start, area.end < run.end ? area.end : run.end));
    }
  }
  return out;
}

/** The parts of `runs` outside `areas`; both ascending. */
export function without(runs: readonly StoredRun[], areas: readonly PageRange[]): StoredRun[] {
  const out: StoredRun[] = [];
  let at = 0;
  for (const run of runs) {
    let { start } = run;
    while ((areas[at]?.end ?? 1n << 64n) <= start) at++;
    for (let k = at; k < areas.length && start < run.end; k++) {
      const area = areas[k] as PageRange;
      if (area.start >= run.end) break;
      if (area.start > start) out.push(partOf(run, start, area.start));
      start = area.end;
    }
    if (start < run.end) out.push(partOf(run, start, run.end));
  }
  return out;
}

/** The parts of `all` that `some` does not cover; both ascending. */
export function holes(all: readonly PageRange[], some: readonly PageRange[]): PageRange[] {
  const out: PageRange[] = [];
  let at = 0;
  for (const { start: from, end } of all) {
    let start = from;
    while ((some[at]?.end ?? 1n << 64n) <= start) at++;
    for (let k = at; k < some.length && start < end; k++) {
      const cover = some[k] as PageRange;
      if (cover.start >= end) break;
      if (cover.start > start) out.push({ start, end: cover.start });
      start = cover.end;
    }
    if (start < end) out.push({ start, end });
  }
  return out;
}

/** The same addresses of a parent and of its child: at most a chunk. */
export interface PagePair {
  readonly parent: StoredRun;
  readonly child: StoredRun;
}

/** Compares pages of images. What has been read of parents is kept for the next child. */
export class PageComparison {
  readonly #differ: ((pairs: readonly PagePair[]) => boolean[]) | undefined;
  readonly #parents = new Map<PageFile, ImageWindow>();
  readonly #children = new Map<PageFile, ImageWindow>();

  /** `differ` tells quickly which of very many chunks are not equal. */
  constructor(differ?: (pairs: readonly PagePair[]) => boolean[]) {
    this.#differ = differ;
  }

  /** Calls `found` with every part of a child that differs from its parent; returns how many pages are equal. */
  differing(pairs: readonly PagePair[], found: (piece: StoredRun) => void): number {
    // The same bytes of the same image: both were left to the same parent image.
    const apart = pairs.filter(({ parent, child }) => parent.file !== child.file || parent.offset !== child.offset);
    const bytes = apart.reduce((sum, { child }) => sum + Number(child.end - child.start), 0);
    const differs = bytes < MANY_BYTES ? undefined : this.#differ?.(apart);
    let unequal = 0;
    apart.forEach((pair, i) => {
      if (differs?.[i] !== false) unequal += this.#compare(pair, found);
    });
    this.#children.clear();
    return pairs.reduce((sum, { child }) => sum + Number(child.end - child.start) / PAGE, 0) - unequal;
  }

  /** Returns how many pages are not equal. */
  #compare({ parent, child }: PagePair, found: (piece: StoredRun) => void): number {
    const bytes = Number(child.end - child.start);
    const a = windowOf(this.#parents, parent.file).of(parent);
    const b = windowOf(this.#children, child.file).of(child);
    if (a.equals(b)) return 0;
    let unequal = 0;
    let from = -1;
    for (let at = 0; at <= bytes; at += PAGE) {
      const same = at === bytes || a.compare(b, at, at + PAGE, at, at + PAGE) === 0;
      if (!same && from < 0) from = at;
      if (same && from >= 0) {
        found(partOf(child, child.start + BigInt(from), child.start + BigInt(at)));
        from = -1;
      }
      if (!same) unequal++;
    }
    return unequal;
  }
}

function windowOf(windows: Map<PageFile, ImageWindow>, file: PageFile): ImageWindow {
  let window = windows.get(file);
  if (window === undefined) {
    window = new ImageWindow();
    windows.set(file, window);
  }
  return window;
}

/** A chunk of a page image in memory: pieces that follow one another need no reading of their own, nor do small images. */
class ImageWindow {
  #from = 0n;
  #bytes: Buffer = Buffer.alloc(0);

  /** The bytes of a run of at most a chunk; valid until the next call. */
  of(run: StoredRun): Buffer {
    const bytes = Number(run.end - run.start);
    let inside = Number(run.offset - this.#from);
    if (inside < 0 || inside + bytes > this.#bytes.length) {
      inside = 0;
      const left = run.file.sizeBytes - run.offset;
      const length = left < CHUNK_BYTES ? Number(left) : CHUNK_BYTES;
      this.#from = run.offset;
      this.#bytes = Buffer.allocUnsafeSlow(length);
      readPages({ ...run, end: run.start + BigInt(length) }, run.start, this.#bytes);
    }
    return this.#bytes.subarray(inside, inside + bytes);
  }
}
