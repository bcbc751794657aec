/**
 * Images larger than a part of the free memory stay out of the page cache: they would push out of it what the machine works
 * with, and nobody reads an image twice.
 *
 * What is written goes to the disk step by step, one behind the writing, and out of the cache; what is read goes as soon as it
 * has been used. Smaller images stay in the cache, where a restore soon after finds them.
 */
import { readFileSync } from "node:fs";
import { beginWriting, writeAndForget } from "../linux/files.js";

/** From this part of the memory that is available on, images are kept out. */
const PART = 4;

/** Whether so many bytes of images are too many for the page cache. `FLOE_CACHED_MIB` sets the limit, for tests. */
export function isTooLargeForCache(sizeBytes: number): boolean {
  const limitMib = process.env["FLOE_CACHED_MIB"];
  if (limitMib !== undefined) return sizeBytes > Number(limitMib) * 2 ** 20;
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "latin1"))?.[1];
  return kib !== undefined && sizeBytes > (Number(kib) * 1024) / PART;
}

/** A range of a file. */
interface Range {
  readonly offset: bigint;
  readonly sizeBytes: bigint;
}

/** Follows somebody who writes a large file. */
export class WriteBehind {
  readonly #fd: number;
  #before: Range | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** A step has been written: it is sent to the disk, and the step before it must be there by now. */
  step(range: Range): void {
    // To the kernel no length is all of the rest.
    if (range.sizeBytes === 0n) return;
    beginWriting(this.#fd, range);
    this.#settle();
    this.#before = range;
  }

  /** Nothing more is written. */
  finish(): void {
    this.#settle();
    this.#before = undefined;
  }

  #settle(): void {
    if (this.#before !== undefined) writeAndForget(this.#fd, this.#before);
  }
}
