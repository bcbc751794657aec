/**
 * An address space that is being filled: what it lacks, and putting pages into it.
 *
 * Filled by   ioctl(UFFDIO_COPY), ioctl(UFFDIO_ZEROPAGE), which also wake who waits for the page
 */
import { closeSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import { ERRNO } from "../../linux/errno.js";
import { type UffdioProgress, uffdioCopy, uffdioPoison, uffdioWake, uffdioZeropage } from "../../linux/userfaultfd.js";
import { KernelError } from "../../errors.js";
import type { PendingPages } from "./pending.js";

const PAGE = 4096n;

/** What became of a request: `again`: the process is changing its mappings, and what it says of that must be read first. */
export type Filled = "done" | "again" | "dead";

export class LazySpace {
  /** The process as the images name it; children have the number of the process that they came from. */
  readonly pid: number;
  readonly uffd: number;
  readonly pending: PendingPages;
  /** Where the rest is being filled. */
  cursor = 0n;

  constructor(init: { pid: number; uffd: number; pending: PendingPages }) {
    this.pid = init.pid;
    this.uffd = init.uffd;
    this.pending = init.pending;
  }

  /** Puts bytes of ours at `source` to [start, end), as far as there is nothing yet. */
  copy(start: bigint, end: bigint, source: bigint): Filled {
    for (let at = start; at < end; ) {
      const result = uffdioCopy(this.uffd, { address: at, sizeBytes: end - at }, { source: source + (at - start) });
      const next = this.took(at, end, result);
      if (typeof next === "bigint") at = next;
      else if (next !== "apart") return next;
      else {
        // The range goes across the end of a mapping: page by page in halves.
        const middle = at + (((end - at) / PAGE) >> 1n) * PAGE;
        const first = this.copy(at, middle, source + (at - start));
        if (first !== "done") return first;
        at = middle;
      }
    }
    return "done";
  }

  /** Notes what a copy of [at, end) did; returns where to go on. */
  took(at: bigint, end: bigint, { doneBytes, errno }: UffdioProgress): bigint | "again" | "dead" | "apart" {
    if (doneBytes > 0n) {
      this.pending.remove(at, at + doneBytes);
      return at + doneBytes;
    }
    switch (errno) {
      case ERRNO.EEXIST:
        return this.#skip(at);
      case ERRNO.EAGAIN:
        return "again";
      case ERRNO.ESRCH:
        return "dead";
      case ERRNO.ENOENT:
        // Not a range of one mapping that we look after: unmapped meanwhile, or the request went too far.
        return end - at > PAGE ? "apart" : this.#skip(at);
      default:
        throw kernelError(`ioctl(UFFDIO_COPY, 0x${at.toString(16)}, ${end - at} bytes)`, errno);
    }
  }

  /** Nothing is to be put at this page; who waits for it finds out for himself. */
  #skip(at: bigint): bigint | "dead" {
    this.pending.remove(at, at + PAGE);
    return this.wake(at) === "dead" ? "dead" : at + PAGE;
  }

  wake(page: bigint): Filled {
    try {
      uffdioWake(this.uffd, { address: page, sizeBytes: PAGE });
      return "done";
    } catch (error) {
      if (error instanceof KernelError) return error.errno === ERRNO.ESRCH ? "dead" : "done";
      throw error;
    }
  }

  /** A page without contents. */
  zero(page: bigint): Filled {
    const { doneBytes, errno } = uffdioZeropage(this.uffd, { address: page, sizeBytes: PAGE });
    if (doneBytes > 0n) return "done";
    if (errno === ERRNO.EAGAIN) return "again";
    if (errno === ERRNO.ESRCH) return "dead";
    if (errno === ERRNO.EEXIST || errno === ERRNO.ENOENT) return this.wake(page);
    throw kernelError(`ioctl(UFFDIO_ZEROPAGE, 0x${page.toString(16)})`, errno);
  }

  /**
   * What is missing will never come: whoever touches it gets SIGBUS, instead of zeros where it had contents. False: the kernel
   * does not do that.
   */
  poison(): boolean {
    let isGood = true;
    for (const { start, end } of this.pending.within(0n, 1n << 63n)) {
      for (let at = start; at < end; ) {
        const { doneBytes, errno } = uffdioPoison(this.uffd, { address: at, sizeBytes: end - at });
        if (doneBytes > 0n) at += doneBytes;
        else if (errno === ERRNO.ESRCH) return true;
        else {
          if (errno !== ERRNO.EEXIST && errno !== ERRNO.ENOENT) isGood = false;
          at += PAGE;
        }
      }
    }
    return isGood;
  }

  /** From here on nobody looks after the memory: all of it must be there. */
  close(): void {
    closeSync(this.uffd);
  }
}
