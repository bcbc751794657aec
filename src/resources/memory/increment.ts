/**
 * Increments: pages that the images of the dump before have already are left to those.
 *
 * Compared by contents, not by who wrote what since: so it works on every kernel, whatever became of the process and its
 * pid in between, and whoever made the images before. A page that is said to be in a parent is equal there.
 */
import { fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { MAP_SHARED, PROT_READ, mmap, munmap, ownMemory } from "../../linux/memory.js";
import type { Fd, ImageSource } from "../part.js";
import type { PageRange } from "./page-runs.js";
import { difference, intersection } from "./page-ranges.js";
import { type PagemapName, type StoredRun, openPageSource, partOf, placeOf } from "./page-source.js";

const PAGE = 4096n;
const PAGE_BYTES = 4096;
const WINDOW_BYTES = 64n << 20n;
const MOVE_BYTES = 1 << 20;

/** Pages of an image that is being made, ascending; the bytes of all of them follow one another. */
export interface ImageRun extends PageRange {
  readonly lazy: boolean;
}

/** The same with what has become of it. */
export interface ThinnedRun extends ImageRun {
  readonly inParent: boolean;
}

/** The pages that the parent of these images has of a process or shared object; none when there is no such image. */
export function pagesOfParent(parent: ImageSource | undefined, of: PagemapName): readonly StoredRun[] {
  return parent === undefined ? [] : openPageSource(parent, of).runs;
}

/** Pages whose bytes stand at `offset` of a file, ascending. */
export interface PlacedPages extends PageRange {
  readonly offset: bigint;
}

/** Which of the pages in file `fd` are equal in the parent: joined, ascending. */
export function equalPages(fd: Fd, pages: readonly PlacedPages[], parent: readonly StoredRun[]): PageRange[] {
  const equal: { start: bigint; end: bigint }[] = [];
  const views = new Views();
  let at = 0;
  try {
    for (const run of pages) {
      while ((parent[at]?.end ?? 1n << 64n) <= run.start) at++;
      for (let k = at; k < parent.length; k++) {
        const old = parent[k] as StoredRun;
        if (old.start >= run.end) break;
        compare(views, { run, old, fd }, equal);
      }
    }
  } finally {
    views.close();
  }
  return equal;
}

/** Adds the pages that `run` (in `fd`) and `old` have both and alike. */
function compare(views: Views, of: { run: PlacedPages; old: StoredRun; fd: Fd }, equal: { start: bigint; end: bigint }[]): void {
  const { run, old, fd } = of;
  const last = run.end < old.end ? run.end : old.end;
  for (let from = run.start > old.start ? run.start : old.start; from < last; ) {
    const end = last - from > WINDOW_BYTES ? from + WINDOW_BYTES : last;
    const bytes = Number(end - from);
    const a = views.of(fd, run.offset + (from - run.start), bytes);
    const place = placeOf(partOf(old, from, end));
    const b = views.of(place.fd, place.offset, bytes);
    if (a.equals(b)) add(equal, from, end);
    else {
      for (let at = 0; at < bytes; at += PAGE_BYTES) {
        if (a.compare(b, at, at + PAGE_BYTES, at, at + PAGE_BYTES) === 0) add(equal, from + BigInt(at), from + BigInt(at) + PAGE);
      }
    }
    from = end;
  }
}

function add(ranges: { start: bigint; end: bigint }[], start: bigint, end: bigint): void {
  const last = ranges.at(-1);
  if (last?.end === start) last.end = end;
  else ranges.push({ start, end });
}

/**
 * Takes the pages out of image `fd` that the parent has alike; what is left follows one another again.
 *
 * `known`: what has been found out of some of the pages already (see {@link equalPages}).
 */
export function thin(
  fd: Fd,
  runs: readonly ImageRun[],
  parent: readonly StoredRun[],
  known?: { readonly looked: readonly PageRange[]; readonly equal: readonly PageRange[] },
): ThinnedRun[] {
  const placed = distinctPlaces(runs);
  const open = known === undefined ? placed : within(placed, difference(placed, known.looked));
  const found = equalPages(fd, open, parent);
  const equal = known === undefined ? found : merge(found, intersection(known.equal, known.looked));
  const thinned = runs.flatMap((run) => [
    ...intersection([run], equal).map((range) => ({ ...range, lazy: run.lazy, inParent: true })),
    ...difference([run], equal).map((range) => ({ ...range, lazy: run.lazy, inParent: false })),
  ]);
  thinned.sort((a, b) => (a.start < b.start ? -1 : 1));
  let end = 0n;
  for (const piece of within(
    placed,
    thinned.filter((run) => !run.inParent),
  )) {
    move(fd, piece, end);
    end += piece.end - piece.start;
  }
  ftruncateSync(fd, Number(end));
  return thinned;
}

function merge(a: readonly PageRange[], b: readonly PageRange[]): PageRange[] {
  return [...a, ...b].sort((one, other) => (one.start < other.start ? -1 : 1));
}

/** The places of runs whose bytes follow one another. */
export function distinctPlaces(runs: readonly PageRange[]): PlacedPages[] {
  let offset = 0n;
  return runs.map(({ start, end }) => {
    const placed = { start, end, offset };
    offset += end - start;
    return placed;
  });
}

/** The parts of `placed` inside `ranges`; both ascend. */
function within(placed: readonly PlacedPages[], ranges: readonly PageRange[]): PlacedPages[] {
  const parts: PlacedPages[] = [];
  let at = 0;
  for (const { start, end } of intersection(placed, ranges)) {
    while ((placed[at] as PlacedPages).end <= start) at++;
    const run = placed[at] as PlacedPages;
    parts.push({ start, end, offset: run.offset + (start - run.start) });
  }
  return parts;
}

let buffer: Buffer | undefined;

/** Moves pages towards the beginning of their file. */
function move(fd: Fd, { start, end, offset }: PlacedPages, to: bigint): void {
  if (offset === to) return;
  buffer ??= Buffer.allocUnsafeSlow(MOVE_BYTES);
  const bytes = Number(end - start);
  for (let done = 0; done < bytes; ) {
    const got = readSync(fd, buffer, 0, Math.min(buffer.length, bytes - done), Number(offset) + done);
    if (got === 0) throw new Error("internal error: a pages image is shorter than it was made");
    for (let wrote = 0; wrote < got; ) wrote += writeSync(fd, buffer, wrote, got - wrote, Number(to) + done + wrote);
    done += got;
  }
}

/** Files seen through mappings, so that nothing is copied to be compared. */
class Views {
  readonly #windows = new Map<Fd, { readonly offset: bigint; readonly address: bigint; readonly bytes: Buffer }>();

  /** At most a window of bytes of a file; valid until the next call for the same file. */
  of(fd: Fd, offset: bigint, bytes: number): Buffer {
    const window = this.#windows.get(fd);
    const inside = window === undefined ? -1 : Number(offset - window.offset);
    if (window !== undefined && inside >= 0 && inside + bytes <= window.bytes.length) return window.bytes.subarray(inside, inside + bytes);
    this.#close(fd);
    const left = fstatSync(fd, { bigint: true }).size - offset;
    const sizeBytes = left < WINDOW_BYTES ? left : WINDOW_BYTES;
    const address = mmap({ sizeBytes, protection: PROT_READ, flags: MAP_SHARED, fd, offset });
    const opened = { offset, address, bytes: ownMemory({ address, sizeBytes }) };
    this.#windows.set(fd, opened);
    return opened.bytes.subarray(0, bytes);
  }

  #close(fd: Fd): void {
    const window = this.#windows.get(fd);
    if (window !== undefined) munmap({ address: window.address, sizeBytes: BigInt(window.bytes.length) });
    this.#windows.delete(fd);
  }

  close(): void {
    for (const fd of [...this.#windows.keys()]) this.#close(fd);
  }
}
