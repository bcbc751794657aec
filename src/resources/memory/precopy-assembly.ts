/**
 * One pages image out of two sources: what was copied while the process ran, and the rest, copied while it stood still.
 */
import { kernelError } from "../../linux/errno.js";
import { copyFileRange } from "../../linux/files.js";
import type { ImageSink } from "../part.js";
import type { PageRange, PageRun } from "./page-runs.js";
import type { PreCopied } from "./precopy.js";

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
    if (isSame(joined(this.#runs), joined(this.#pre.layout))) {
      this.#overwrite();
      images.giveName(this.#pre.fd, name);
    } else this.#compose(images.rawFile(name));
  }

  /** Every page has its place in the copy: what is newer takes it. */
  #overwrite(): void {
    const places = new Cursor(this.#pre.layout);
    let from = 0n;
    for (const { start, end } of this.rest) {
      for (const part of places.parts({ start, end })) {
        const size = part.end - part.start;
        copy({ fd: this.restFd, offset: from }, { fd: this.#pre.fd, offset: part.offset }, size);
        from += size;
      }
    }
  }

  /** Pages have come or gone: a new file, in the order of the pages there are now. */
  #compose(to: number): void {
    const places = new Cursor(this.#pre.layout);
    let from = 0n;
    let offset = 0n;
    const rest = [...this.rest];
    const take = (fd: number, at: bigint, size: bigint) => {
      copy({ fd, offset: at }, { fd: to, offset }, size);
      offset += size;
    };
    const takeCopied = (range: PageRange) => {
      for (const part of places.parts(range)) take(this.#pre.fd, part.offset, part.end - part.start);
    };
    let next = 0;
    for (const run of joined(this.#runs)) {
      let at = run.start;
      for (let other = rest[next]; other !== undefined && other.start < run.end; other = rest[++next]) {
        if (other.start > at) takeCopied({ start: at, end: other.start });
        take(this.restFd, from, other.end - other.start);
        from += other.end - other.start;
        at = other.end;
      }
      if (at < run.end) takeCopied({ start: at, end: run.end });
    }
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

function isSame(a: readonly PageRange[], b: readonly PageRange[]): boolean {
  return a.length === b.length && a.every(({ start, end }, i) => start === b[i]?.start && end === b[i].end);
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
