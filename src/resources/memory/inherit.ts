/**
 * Copy-on-write between parent and child: which pages of the child are those of the parent.
 *
 * The images do not say which pages were shared, but equal contents at equal addresses in a mapping that both have can
 * be shared again without a difference to anybody.
 */
import { fstatSync } from "node:fs";
import type { Fd } from "../part.js";
import { MAP_PRIVATE, PROT_READ, mmap, munmap, ownMemory } from "../../linux/memory.js";
import { type PageSource, type StoredRun, partOf, placeOf } from "./page-source.js";

const PAGE = 4096;
const WINDOW_BYTES = 64n << 20n;

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
export function compareWithParent(of: { parent: PageSource; child: PageSource; areas: readonly PageRange[] }): Comparison {
  const figures = { compared: 0, equal: 0 };
  const parentRuns = clip(of.parent.runs, of.areas);
  const childInside = clip(of.child.runs, of.areas);
  const needed: StoredRun[] = [...without(of.child.runs, of.areas)];
  const pages = new PagePair();
  try {
    walk();
  } finally {
    pages.close();
  }
  needed.sort((a, b) => (a.start < b.start ? -1 : 1));
  return { needed, stale: holes(parentRuns, childInside), figures };

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
        const end = parent.end < run.end ? parent.end : run.end;
        figures.compared += Number(end - start) / PAGE;
        figures.equal += pages.differing(partOf(parent, start, end), partOf(run, start, end), (piece) => needed.push(piece));
        start = end;
      }
    }
  }
}

/** The parts of `runs` inside `areas`. */
function clip(runs: readonly StoredRun[], areas: readonly PageRange[]): StoredRun[] {
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

/** Pages of two sets of images side by side, seen through mappings so that no page is copied to be compared. */
export class PagePair {
  readonly #parents = new Map<Fd, ImageView>();
  readonly #children = new Map<Fd, ImageView>();

  /** Calls `found` with every part of `child` that differs from `parent` (same addresses); returns how many pages are equal. */
  differing(parent: StoredRun, child: StoredRun, found: (piece: StoredRun) => void): number {
    let equal = 0;
    for (let start = child.start; start < child.end; start += WINDOW_BYTES) {
      const end = child.end - start > WINDOW_BYTES ? start + WINDOW_BYTES : child.end;
      equal += this.#compare(partOf(parent, start, end), partOf(child, start, end), found);
    }
    return equal;
  }

  #compare(parent: StoredRun, child: StoredRun, found: (piece: StoredRun) => void): number {
    const bytes = Number(child.end - child.start);
    // The same bytes of the same image: both were left to the same parent image.
    if (parent.file === child.file && parent.offset === child.offset) return bytes / PAGE;
    const [first, second] = [placeOf(parent), placeOf(child)];
    const a = viewOf(this.#parents, first.fd).at(first.offset, bytes);
    const b = viewOf(this.#children, second.fd).at(second.offset, bytes);
    if (a.equals(b)) return bytes / PAGE;
    let equal = 0;
    let from = -1;
    for (let at = 0; at <= bytes; at += PAGE) {
      const same = at === bytes || a.compare(b, at, at + PAGE, at, at + PAGE) === 0;
      if (!same && from < 0) from = at;
      if (same && from >= 0) {
        found(partOf(child, child.start + BigInt(from), child.start + BigInt(at)));
        from = -1;
      }
      if (same && at < bytes) equal++;
    }
    return equal;
  }

  close(): void {
    for (const view of [...this.#parents.values(), ...this.#children.values()]) view.close();
  }
}

function viewOf(views: Map<Fd, ImageView>, fd: Fd): ImageView {
  let view = views.get(fd);
  if (view === undefined) {
    view = new ImageView(fd);
    views.set(fd, view);
  }
  return view;
}

/** A page image through a window that moves along: pieces that follow one another need no mapping of their own. */
class ImageView {
  readonly #fd: number;
  #window: { readonly offset: bigint; readonly address: bigint; readonly bytes: Buffer } | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** `bytes` (at most a window) of the image from `offset`; valid until the next call. */
  at(offset: bigint, bytes: number): Buffer {
    const inside = this.#window === undefined ? -1 : Number(offset - this.#window.offset);
    if (this.#window !== undefined && inside >= 0 && inside + bytes <= this.#window.bytes.length) {
      return this.#window.bytes.subarray(inside, inside + bytes);
    }
    this.close();
    const left = fstatSync(this.#fd, { bigint: true }).size - offset;
    const sizeBytes = left < WINDOW_BYTES ? left : WINDOW_BYTES;
    const address = mmap({ sizeBytes, protection: PROT_READ, flags: MAP_PRIVATE, fd: this.#fd, offset });
    this.#window = { offset, address, bytes: ownMemory({ address, sizeBytes }) };
    return this.#window.bytes.subarray(0, bytes);
  }

  close(): void {
    if (this.#window !== undefined) munmap({ address: this.#window.address, sizeBytes: BigInt(this.#window.bytes.length) });
    this.#window = undefined;
  }
}
