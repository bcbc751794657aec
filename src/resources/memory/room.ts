/**
 * Memory of ours into which pages of processes are copied while they stand still, and from which they are written to the
 * images afterwards.
 *
 * Copied by   pread(2) on /proc/PID/mem
 *
 * For all but the largest processes this is sooner done than to have the process write them itself, for which it has to be
 * handed a descriptor (five round trips). The room is made before the freeze, of the size that the tree seems to need; what
 * does not fit goes the other way.
 *
 * As a rule not by process_vm_readv(2), twice as fast: it pins pages, for which the kernel first makes a copy of every page that the
 * process shares with a relative since a fork (or by KSM), and the two have it twice from then on.
 */
import { closeSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import { UIO_MAXIOV, populate } from "../../linux/memory.js";
import { gatherFromProcess } from "../../linux/ptrace.js";
import type { PageRun } from "./page-runs.js";

/** At most so much, and at most this part of the memory that is free. */
const MAX_BYTES = 256 << 20;
const PART_OF_FREE = 8;
/** A larger process that has not been copied ahead writes itself: it takes longer than the round trips do. */
const LARGE_BYTES = 48 << 20;
/** What may be left to be copied of one that has. */
const REST_BYTES = 8 << 20;
/** For pages that come while the dump is prepared, each process. */
const SPARE_BYTES = 192 << 10;
const PAGE_BYTES = 4096;

/** A part of the room is taken once and never given back: a dump has one room. */
export class Room {
  readonly #memory: Buffer;
  #used = 0;

  constructor(sizeBytes: number) {
    this.#memory = Buffer.allocUnsafeSlow(sizeBytes);
    if (sizeBytes > 0) populate(this.#memory);
  }

  /** Undefined when there is not as much left. */
  #take(bytes: number): Buffer | undefined {
    if (bytes > this.#memory.length - this.#used) return undefined;
    this.#used += bytes;
    return this.#memory.subarray(this.#used - bytes, this.#used);
  }

  /**
   * Copies pages of process `pid`; undefined where there is no room for them, or not all of them can be read like this. `isShared`: it
   * shares pages with relatives.
   */
  copy(pid: number, runs: readonly PageRun[], isShared: boolean): Buffer | undefined {
    const bytes = runs.reduce((sum, run) => sum + Number(run.end - run.start), 0);
    const before = this.#used;
    const memory = this.#take(bytes);
    if (memory !== undefined && (isGathered(memory, pid, runs, isShared) || copyInto(memory, pid, runs))) return memory;
    this.#used = before;
    return undefined;
  }
}

/** A room for what the processes `pids` have of their own by now and is not in `copies`, as far as it may be. */
export function roomFor(pids: readonly number[], copies: { has(pid: number): boolean }): Room {
  const wanted = pids.reduce((sum, pid) => sum + (copies.has(pid) ? REST_BYTES : ownBytes(pid)), 0);
  return new Room(Math.min(wanted, MAX_BYTES, Math.floor(availableBytes() / PART_OF_FREE)));
}

/** What is present and no file's. */
function ownBytes(pid: number): number {
  try {
    const [, present = 0, shared = 0] = readFileSync(`/proc/${pid}/statm`, "latin1").split(" ").map(Number);
    const own = (present - shared) * PAGE_BYTES;
    return own > LARGE_BYTES ? 0 : own + SPARE_BYTES;
  } catch {
    return 0; // it ended
  }
}

function availableBytes(): number {
  const kib = /^MemAvailable:\s*(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "latin1"))?.[1];
  return Number(kib ?? 0) * 1024;
}

/** Fewer are read one by one as soon. */
const MANY_RUNS = 32;

/** Many pages by few calls, of a process that shares next to nothing (its memory was copied ahead in the same way). */
function isGathered(memory: Buffer, pid: number, runs: readonly PageRun[], isShared: boolean): boolean {
  if (isShared || runs.length < MANY_RUNS) return false;
  let at = 0;
  for (let first = 0; first < runs.length; first += UIO_MAXIOV) {
    const ranges = runs.slice(first, first + UIO_MAXIOV).flatMap(({ start, end }) => [Number(start), Number(end - start)]);
    let bytes = 0;
    for (let i = 1; i < ranges.length; i += 2) bytes += ranges[i] ?? 0;
    if (gatherFromProcess(pid, memory.subarray(at, at + bytes), ranges) !== bytes) return false;
    at += bytes;
  }
  return true;
}

function copyInto(memory: Buffer, pid: number, runs: readonly PageRun[]): boolean {
  const from = openSync(`/proc/${pid}/mem`, "r");
  let at = 0;
  try {
    for (const { start, end } of runs) {
      for (let done = 0; done < Number(end - start); ) {
        const got = readSync(from, memory, at, Number(end - start) - done, Number(start) + done);
        if (got <= 0) return false;
        at += got;
        done += got;
      }
    }
    return true;
  } catch {
    return false; // the process writes itself, and says what is wrong
  } finally {
    closeSync(from);
  }
}

/** Writes what was copied to its place in the image. */
export function writePages(fd: number, bytes: Buffer, name: string): void {
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
  } catch (error) {
    const { errno = -5 } = error as NodeJS.ErrnoException;
    throw kernelError(`pwrite of ${bytes.length} bytes`, errno, `writing ${name}`);
  }
}
