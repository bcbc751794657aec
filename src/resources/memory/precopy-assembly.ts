/**
 * One pages image out of two sources: what was copied while the process ran, and the rest, copied while it stood still.
 */
import { ftruncateSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import { copyFileRange } from "../../linux/files.js";
import type { ImageSink } from "../part.js";
import type { PageRange, PageRun } from "./page-runs.js";
import type { PreCopied } from "./precopy.js";

const NOWHERE = 1n << 64n;
/** One copy by the kernel moves less than 2 GiB. */
const MAX_COPY = 1n << 30n;

/** Decides what is left to be copied, and puts the image together afterwards. */
export class Assembly {
  /** What the image is to hold: all pages, ascending. */
  readonly #runs: readonly PageRun[];
  readonly #pre: PreCopied;
  /** What the copy does not have or has no longer right, ascending. */
  readonly rest: readonly PageRun[];
  /** Where the rest goes, one run behind the other. */
  readonly restFd: number;

  constructor(runs: readonly PageRun[], pre: PreCopied, restFd: number) {
    this.#runs = runs;
    this.#pre = pre;
    this.restFd = restFd;
    this.rest = withoutCopied(runs, pre.copied);
  }

  /** Makes the image `name`; needs nothing of the process any more. */
  finish(images: ImageSink, name: string): void {
    const pieces = this.#pieces();
    const total = pieces.reduce((sum, { start, end }) => sum + (end - start), 0n);
    const from = firstDifference(joined(this.#runs), joined(this.#pre.layout));
    const tail = pieces.flatMap((piece) => after(piece, from));
    const tailBytes = tail.reduce((sum, { start, end }) => sum + (end - start), 0n);
    const scratch = tailBytes * 2n > total ? undefined : images.scratch();
    if (scratch === undefined) {
      append(pieces, { fd: images.rawFile(name), offset: 0n });
      return;
    }
    // Up to there every page has its place in the copy: what is newer takes it. Behind it, pages have come or gone.
    this.#overwrite(from);
    append(tail, { fd: scratch, offset: 0n });
    copy({ fd: scratch, offset: 0n }, { fd: this.#pre.fd, offset: total - tailBytes }, tailBytes);
    ftruncateSync(this.#pre.fd, Number(total));
    images.giveName(this.#pre.fd, name);
  }

  #overwrite(limit: bigint): void {
    const places = new Cursor(this.#pre.layout);
    for (const piece of this.#pieces()) {
      if (piece.fd !== this.restFd || piece.start >= limit) continue;
      const end = piece.end < limit ? piece.end : limit;
      for (const part of places.parts({ start: piece.start, end })) {
        const source = { fd: piece.fd, offset: piece.offset + part.start - piece.start };
        copy(source, { fd: this.#pre.fd, offset: part.offset }, part.end - part.start);
      }
    }
  }

  /** All pages, ascending, and where their bytes are. */
  #pieces(): Piece[] {
    const places = new Cursor(this.#pre.layout);
    const pieces: Piece[] = [];
    let offset = 0n;
    let next = 0;
    const takeCopied = (range: PageRange) => {
      for (const part of places.parts(range)) pieces.push({ ...part, fd: this.#pre.fd });
    };
    for (const run of joined(this.#runs)) {
      let at = run.start;
      for (let other = this.rest[next]; other !== undefined && other.start < run.end; other = this.rest[++next]) {
        if (other.start > at) takeCopied({ start: at, end: other.start });
        pieces.push({ start: other.start, end: other.end, fd: this.restFd, offset });
        offset += other.end - other.start;
        at = other.end;
      }
      if (at < run.end) takeCopied({ start: at, end: run.end });
    }
    return pieces;
  }
}

/** Pages whose bytes begin at `offset` of a file. */
interface Piece extends PageRange {
  readonly fd: number;
  readonly offset: bigint;
}

/** The part of a piece that lies behind `address`. */
function after(piece: Piece, address: bigint): Piece[] {
  if (piece.end <= address) return [];
  if (piece.start >= address) return [piece];
  return [{ ...piece, start: address, offset: piece.offset + address - piece.start }];
}

/** Writes pieces one behind the other. */
function append(pieces: readonly Piece[], to: { fd: number; offset: bigint }): void {
  let { offset } = to;
  for (const { start, end, fd, offset: from } of pieces) {
    copy({ fd, offset: from }, { fd: to.fd, offset }, end - start);
    offset += end - start;
  }
}

/** Up to which address two sets of pages are the same; beyond all addresses when they are equal. */
function firstDifference(a: readonly PageRange[], b: readonly PageRange[]): bigint {
  for (let i = 0; ; i++) {
    const [one, other] = [a[i], b[i]];
    if (one === undefined && other === undefined) return NOWHERE;
    if (one === undefined || other === undefined) return (one ?? (other as PageRange)).start;
    if (one.start !== other.start) return one.start < other.start ? one.start : other.start;
    if (one.end !== other.end) return one.end < other.end ? one.end : other.end;
  }
}

function withoutCopied(runs: readonly PageRun[], copied: readonly PageRange[]): PageRun[] {
  const rest: PageRun[] = [];
  let at = 0;
  for (const run of runs) {
    if (!run.unwritten) {
      rest.push(run);
      continue;
    }
    let from = run.start;
    while (from < run.end) {
      const known = copied[at];
      if (known === undefined || known.start >= run.end) {
        rest.push({ ...run, start: from });
        break;
      }
      if (known.end <= from) {
        at++;
        continue;
      }
      if (known.start > from) rest.push({ ...run, start: from, end: known.start });
      from = known.end;
    }
  }
  return rest;
}

function joined(ranges: readonly PageRange[]): PageRange[] {
  const result: { start: bigint; end: bigint }[] = [];
  for (const { start, end } of ranges) {
    const last = result.at(-1);
    if (last?.end === start) last.end = end;
    else result.push({ start, end });
  }
  return result;
}

/** Finds the places of ranges that are asked for in ascending order. */
class Cursor {
  readonly #layout: PreCopied["layout"];
  #at = 0;

  constructor(layout: PreCopied["layout"]) {
    this.#layout = layout;
  }

  *parts({ start, end }: PageRange): Generator<PageRange & { offset: bigint }> {
    for (let from = start; from < end; ) {
      const place = this.#layout[this.#at];
      if (place === undefined || place.start > from) throw new Error(`internal error: no copy of page 0x${from.toString(16)}`);
      if (place.end <= from) {
        this.#at++;
        continue;
      }
      const to = place.end < end ? place.end : end;
      yield { start: from, end: to, offset: place.offset + from - place.start };
      from = to;
    }
  }
}

function copy(from: { fd: number; offset: bigint }, to: { fd: number; offset: bigint }, size: bigint): void {
  for (let done = 0n; done < size; ) {
    const want = size - done < MAX_COPY ? size - done : MAX_COPY;
    const places = [
      { fd: from.fd, offset: from.offset + done },
      { fd: to.fd, offset: to.offset + done },
    ] as const;
    const got = copyFileRange(...places, Number(want));
    if (got === 0) throw kernelError("copy_file_range", -5, "the copy of memory is shorter than it was made");
    done += BigInt(got);
  }
}
