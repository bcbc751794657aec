/**
 * Filling behind: several threads copy at once, straight from mapped images into the process.
 */
import { LaneWork, Lanes, nativeFunction } from "../../linux/lanes.js";
import { ERRNO } from "../../linux/errno.js";
import { UFFDIO_COPY } from "../../linux/userfaultfd.js";
import type { Filled, LazySpace } from "./space.js";
import type { Held, LazyImages } from "./source.js";

/** One lane's part of a step: little while pages are asked for, more when nobody waits. */
const LEAST_BYTES = 256n << 10n;
const MOST_BYTES = 2n << 20n;
/** uapi/asm-generic/mman-common.h, since 5.14: maps the pages of a file at once. */
const MADV_POPULATE_READ = 22;
const COPY_BYTES = 40;
const RESULT_OFFSET = 32;

interface Piece {
  readonly start: bigint;
  readonly end: bigint;
  readonly held: Held;
  readonly arg: Buffer;
}

export class CopyLanes {
  #lanes: Lanes | undefined;
  #bytes = LEAST_BYTES;

  /** Copies the next pages that `space` lacks, as far as they are in the images. */
  fill(space: LazySpace, images: LazyImages): Filled {
    this.#lanes ??= new Lanes({ areaBytes: 4096 });
    const pieces = this.#pieces(space, images, this.#lanes.count);
    const work = new LaneWork();
    const ioctl = nativeFunction("ioctl");
    const madvise = nativeFunction("madvise");
    for (const { start, end, held, arg } of pieces) {
      [start, held.address, end - start, 0n, 0n].forEach((value, i) => {
        arg.writeBigUInt64LE(value, i * 8);
      });
      work.group();
      work.call(madvise, held.address & ~0xfffn, end - start, MADV_POPULATE_READ);
      work.call(ioctl, space.uffd, UFFDIO_COPY, arg);
    }
    this.#lanes.run(work);
    this.#bytes = this.#bytes * 2n < MOST_BYTES ? this.#bytes * 2n : MOST_BYTES;
    let became: Filled = "done";
    for (const { start, end, held, arg } of pieces) {
      const result = arg.readBigInt64LE(RESULT_OFFSET);
      const progress = result >= 0n ? { doneBytes: result, errno: ERRNO.EAGAIN } : { doneBytes: 0n, errno: Number(-result) };
      const at = result === 0n ? start : space.took(start, end, progress);
      // Whatever did not go smoothly is done again by itself; a process that changes its mappings is left alone for a moment.
      if (at === "apart") became = worse(became, space.copy(start, end, held.address));
      else if (typeof at !== "bigint") became = worse(became, at);
      else if (at < end) became = worse(became, space.copy(at, end, held.address + (at - start)));
      held.done();
    }
    return became;
  }

  #pieces(space: LazySpace, images: LazyImages, count: number): Piece[] {
    const pieces: Piece[] = [];
    let at = space.cursor;
    while (pieces.length < count) {
      const range = space.pending.next(at);
      // Behind the last one it begins again: that is for the next step.
      if (range === undefined || (pieces.length > 0 && range.end <= at)) break;
      const start = at > range.start && at < range.end ? at : range.start;
      const want = range.end - start < this.#bytes ? range.end - start : this.#bytes;
      const held = images.hold(space.pid, range.origin + (start - range.start), want);
      if (held === undefined) break;
      pieces.push({ start, end: start + held.bytes, held, arg: Buffer.alloc(COPY_BYTES) });
      at = start + held.bytes;
    }
    space.cursor = at;
    return pieces;
  }

  /** Somebody waited for a page: the next steps are short. */
  calm(): void {
    this.#bytes = LEAST_BYTES;
  }

  close(): void {
    this.#lanes?.close();
    this.#lanes = undefined;
  }
}

function worse(a: Filled, b: Filled): Filled {
  const order: readonly Filled[] = ["done", "again", "dead"];
  return order.indexOf(a) > order.indexOf(b) ? a : b;
}
