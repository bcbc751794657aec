/**
 * The pages that a process does not have yet: where they belong now, and where they are in the images.
 *
 * Both differ once the process has moved a mapping (mremap), and a child has the pages of its parent.
 */
import type { PageRange } from "../../resources/memory/page-runs.js";

/** Pages [start, end) of the process; the first is page `origin` of the images. */
export interface PendingRange extends PageRange {
  readonly origin: bigint;
}

export class PendingPages {
  /** Ascending, without overlaps. */
  #ranges: PendingRange[];

  constructor(ranges: readonly PendingRange[]) {
    this.#ranges = [...ranges];
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  get first(): PendingRange | undefined {
    return this.#ranges[0];
  }

  /** Bytes in all. */
  get bytes(): bigint {
    return this.#ranges.reduce((sum, { start, end }) => sum + (end - start), 0n);
  }

  clone(): PendingPages {
    return new PendingPages(this.#ranges);
  }

  /** The range that has this address. */
  at(address: bigint): PendingRange | undefined {
    const range = this.#ranges[this.#search(address)];
    return range !== undefined && range.start <= address ? range : undefined;
  }

  /** The first range at or behind this address, or from the beginning. */
  next(address: bigint): PendingRange | undefined {
    return this.#ranges[this.#search(address)] ?? this.#ranges[0];
  }

  /** The parts inside [start, end). */
  within(start: bigint, end: bigint): PendingRange[] {
    const found: PendingRange[] = [];
    for (let i = this.#search(start); i < this.#ranges.length; i++) {
      const range = this.#ranges[i] as PendingRange;
      if (range.start >= end) break;
      found.push(part(range, range.start > start ? range.start : start, range.end < end ? range.end : end));
    }
    return found;
  }

  /** The parts whose pages are [start, end) of the images. */
  ofImage(start: bigint, end: bigint): PendingRange[] {
    const found: PendingRange[] = [];
    for (const range of this.#ranges) {
      const last = range.origin + (range.end - range.start);
      if (range.origin >= end || last <= start) continue;
      const from = range.origin > start ? range.origin : start;
      const to = last < end ? last : end;
      const shift = range.start - range.origin;
      found.push({ start: from + shift, end: to + shift, origin: from });
    }
    return found;
  }

  /** These pages are there now, or are not wanted any more. Returns what was pending of them. */
  remove(start: bigint, end: bigint): PendingRange[] {
    const taken = this.within(start, end);
    if (taken.length === 0) return taken;
    const first = this.#search(start);
    let last = first;
    while (last < this.#ranges.length && (this.#ranges[last] as PendingRange).start < end) last++;
    const rest: PendingRange[] = [];
    const left = this.#ranges[first] as PendingRange;
    const right = this.#ranges[last - 1] as PendingRange;
    if (left.start < start) rest.push(part(left, left.start, start));
    if (right.end > end) rest.push(part(right, end, right.end));
    this.#ranges.splice(first, last - first, ...rest);
    return taken;
  }

  /** A mapping was moved. */
  move(from: bigint, to: bigint, bytes: bigint): void {
    const moved = this.remove(from, from + bytes);
    // What was there was unmapped for it.
    this.remove(to, to + bytes);
    const shift = to - from;
    this.#ranges.push(...moved.map(({ start, end, origin }) => ({ start: start + shift, end: end + shift, origin })));
    this.#ranges.sort((a, b) => (a.start < b.start ? -1 : 1));
  }

  /** Index of the first range that ends behind `address`. */
  #search(address: bigint): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ranges[middle] as PendingRange).end <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function part(range: PendingRange, start: bigint, end: bigint): PendingRange {
  return { start, end, origin: range.origin + (start - range.start) };
}
