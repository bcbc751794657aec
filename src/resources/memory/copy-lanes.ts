/**
 * Copying much memory out of a process, by several lanes at once.
 *
 * Made with   process_vm_readv(2) into a buffer that stays in the processor's cache, pwrite(2) from there; pread(2) on
 *             /proc/PID/mem for a process that shares pages with relatives (`precopy.ts`)
 *
 * Writing takes the lock of the file, so a second lane that writes gains only what reading costs. Into a file in memory it reads straight
 * into a mapping of the file instead, which takes no lock and copies once (decision 36).
 */
import { fstatSync, writeSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import { TMPFS_MAGIC, fstatfs } from "../../linux/files.js";
import { LaneWork, Lanes, type RunningLanes, nativeFunction, usefulLanes, writeIovec } from "../../linux/lanes.js";
import {
  IOVEC_BYTES,
  MAP_SHARED,
  type MemoryRange,
  PAGE_BYTES,
  PROT_READ,
  PROT_WRITE,
  UIO_MAXIOV,
  mmap,
  munmap,
} from "../../linux/memory.js";

/** With what is read a moment before, it fits into the cache that a processor has to itself. */
export const COPY_CHUNK_BYTES = 512 << 10;
const BUFFER_OFFSET = 4096;
const MOST_LANES = 2;
const ENOSPC = 28;
/** A mapping takes some calls. */
const WORTH_MAPPING_BYTES = 16 << 20;

/** A piece of what is read in one go, and where it belongs in the file. */
export interface Placement {
  /** Bytes from the beginning of what is read. */
  readonly from: number;
  readonly sizeBytes: number;
  readonly offset: bigint;
}

/** What is read in one go (at most a chunk), and where it goes. */
export interface CopyJob {
  readonly ranges: readonly MemoryRange[];
  readonly placements: readonly Placement[];
}

/** Whose memory is copied. */
export interface CopySource {
  readonly pid: number;
  /** A descriptor of /proc/PID/mem, if it is to be read through that. */
  readonly memory: number | undefined;
}

/** A job as the lanes are given it: one read, and where that went. */
interface Part {
  readonly job: CopyJob;
  /** Into a buffer, and from there into the file. */
  readonly written: { readonly read: number; readonly writes: readonly number[] };
  /** Straight into the mapping, without writes; or this one too goes through a buffer. */
  readonly mapped: { readonly read: number; readonly writes: readonly number[] };
}

/** Copying that has been made ready; `start` it, and `join` it. */
export interface PreparedCopy {
  start(): void;
  /** Waits; returns for each job how many bytes of whole pages could be read. */
  join(): number[];
}

/** Copies memory of a process into file `fd`. What comes next can be made ready while the lanes are at work. */
export class MemoryCopier implements Disposable {
  readonly #source: CopySource;
  readonly #fd: number;
  readonly #lanes: Lanes;
  /** The file, mapped. */
  readonly #file: MemoryRange | undefined;
  /** Lanes at work, which use all of this. */
  #running: RunningLanes | undefined;

  /** `sizeBytes`: about so much is to be copied. */
  constructor(source: CopySource, fd: number, sizeBytes: number) {
    this.#source = source;
    this.#fd = fd;
    this.#lanes = new Lanes({ areaBytes: BUFFER_OFFSET + COPY_CHUNK_BYTES, count: Math.min(MOST_LANES, usefulLanes()) });
    for (let i = 0; i < this.#lanes.count; i++) {
      const { address, bytes } = this.#lanes.area(i);
      writeIovec(bytes, 0, { address: address + BigInt(BUFFER_OFFSET), sizeBytes: BigInt(COPY_CHUNK_BYTES) });
    }
    this.#file = this.#lanes.count < MOST_LANES || sizeBytes < WORTH_MAPPING_BYTES ? undefined : mapFile(fd);
  }

  prepare(jobs: readonly CopyJob[]): PreparedCopy {
    // One range a call where it is read from /proc/PID/mem, and a call that fails ends its group.
    const parts = this.#source.memory === undefined ? jobs.map((job) => [job]) : jobs.map(singleRanges);
    const [writing, mapping] = [new LaneWork(), new LaneWork()];
    const all = parts.flat().map((job) => this.#add(job, writing, mapping));
    return {
      start: () => {
        if (writing.groups > 0) this.#running = this.#lanes.start(writing, mapping);
      },
      join: () => {
        this.#join();
        const got = all.map((part) => this.#settle(part, { writing, mapping })).values();
        return parts.map((ofJob) =>
          readTogether(
            ofJob,
            [...ofJob].map(() => got.next().value ?? 0),
          ),
        );
      },
    };
  }

  #add(job: CopyJob, writing: LaneWork, mapping: LaneWork): Part {
    const written = this.#addWriting(job, writing);
    return { job, written, mapped: this.#addMapping(job, mapping) ?? this.#addWriting(job, mapping) };
  }

  #addWriting({ ranges, placements }: CopyJob, work: LaneWork): Part["written"] {
    const { pid, memory } = this.#source;
    work.group();
    const [first] = ranges;
    const read =
      memory !== undefined && first !== undefined
        ? work.call(nativeFunction("pread"), memory, { inArea: BUFFER_OFFSET }, first.sizeBytes, first.address)
        : work.call(nativeFunction("process_vm_readv"), pid, { inArea: 0 }, 1, iovecsOf(ranges), ranges.length, 0);
    const pwrite = nativeFunction("pwrite");
    const writes = placements.map((to) => work.call(pwrite, this.#fd, { inArea: BUFFER_OFFSET + to.from }, to.sizeBytes, to.offset));
    return { read, writes };
  }

  /** Where all that is read has its place in the mapping, and is read by one call. */
  #addMapping({ ranges, placements }: CopyJob, work: LaneWork): Part["mapped"] | undefined {
    const file = this.#file;
    const [first] = ranges;
    if (file === undefined || first === undefined || placements.length > UIO_MAXIOV) return undefined;
    const bytes = ranges.reduce((sum, { sizeBytes }) => sum + Number(sizeBytes), 0);
    let end = 0;
    for (const { from, sizeBytes, offset } of placements) {
      if (from !== end || offset + BigInt(sizeBytes) > file.sizeBytes) return undefined;
      end += sizeBytes;
    }
    if (end !== bytes) return undefined;
    const places = placements.map(({ offset, sizeBytes }) => ({ address: file.address + offset, sizeBytes: BigInt(sizeBytes) }));
    const { pid, memory } = this.#source;
    if (memory !== undefined && places.length > 1) return undefined;
    work.group();
    const read =
      memory !== undefined
        ? work.call(nativeFunction("pread"), memory, places[0]?.address ?? 0n, first.sizeBytes, first.address)
        : work.call(nativeFunction("process_vm_readv"), pid, iovecsOf(places), places.length, iovecsOf(ranges), ranges.length, 0);
    return { read, writes: [] };
  }

  /** How many bytes could be read; they are in the file then. */
  #settle({ job, written, mapped }: Part, { writing, mapping }: { writing: LaneWork; mapping: LaneWork }): number {
    // A lane did it in one of the two ways; the other one says 0.
    const isMapped = writing.result(written.read) === 0n;
    const [work, calls] = isMapped ? [mapping, mapped] : [writing, written];
    const got = wholePages(work.result(calls.read));
    if (isMapped && calls.writes.length === 0) {
      // The memory is not there any more, or there is no room for the file: writing tells one from the other.
      return got < sizeOf(job) ? this.#again(job) : got;
    }
    if (got > 0) settlePlaces(this.#fd, job, { got, wrote: calls.writes.map((call) => Number(work.result(call))) });
    return got;
  }

  #again(job: CopyJob): number {
    const work = new LaneWork();
    const { read, writes } = this.#addWriting(job, work);
    this.#lanes.run(work);
    const got = wholePages(work.result(read));
    if (got > 0) settlePlaces(this.#fd, job, { got, wrote: writes.map((call) => Number(work.result(call))) });
    return got;
  }

  #join(): void {
    this.#running?.join();
    this.#running = undefined;
  }

  [Symbol.dispose](): void {
    this.#join();
    this.#lanes.close();
    if (this.#file !== undefined) munmap(this.#file);
  }
}

/** Maps a file in memory. Those of disks take a written page faster than one that a mapping touches: they keep them in larger pieces. */
function mapFile(fd: number): MemoryRange | undefined {
  const sizeBytes = fstatSync(fd, { bigint: true }).size;
  if (sizeBytes === 0n || fstatfs(fd).type !== TMPFS_MAGIC) return undefined;
  try {
    return { address: mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd }), sizeBytes };
  } catch {
    return undefined; // a limit
  }
}

function singleRanges({ ranges, placements }: CopyJob): CopyJob[] {
  let base = 0;
  return ranges.map((range) => {
    const [start, end] = [base, base + Number(range.sizeBytes)];
    base = end;
    const own = placements.filter(({ from }) => from >= start && from < end);
    return { ranges: [range], placements: own.map((to) => ({ ...to, from: to.from - start })) };
  });
}

/** What was read of a job without a gap, of which `got` says how much was read of each part. */
function readTogether(parts: readonly CopyJob[], got: readonly number[]): number {
  const short = parts.findIndex((part, i) => (got[i] ?? 0) < sizeOf(part));
  return got.slice(0, short < 0 ? got.length : short + 1).reduce((sum, bytes) => sum + bytes, 0);
}

function sizeOf({ ranges }: CopyJob): number {
  return Number(ranges.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n));
}

function wholePages(result: bigint): number {
  return result <= 0n ? 0 : Number(result) & ~(PAGE_BYTES - 1);
}

function iovecsOf(ranges: readonly MemoryRange[]): Buffer {
  const remote = Buffer.allocUnsafe(ranges.length * IOVEC_BYTES);
  ranges.forEach((range, i) => {
    writeIovec(remote, i * IOVEC_BYTES, range);
  });
  return remote;
}

function settlePlaces(fd: number, { placements }: CopyJob, { got, wrote }: { got: number; wrote: readonly number[] }): void {
  placements.forEach((place, i) => {
    settle(fd, place, { got, wrote: wrote[i] ?? 0 });
  });
}

/** Sees that a piece is in the file as far as it was read; behind that the buffer had something else. */
function settle(fd: number, { from, sizeBytes, offset }: Placement, { got, wrote }: { got: number; wrote: number }): void {
  if (wrote !== sizeBytes)
    throw kernelError("pwrite of memory copied ahead", -ENOSPC, `the pages image took ${wrote} of ${sizeBytes} bytes`);
  const good = Math.max(0, got - from);
  if (good >= sizeBytes) return;
  const zeros = Buffer.alloc(sizeBytes - good);
  for (let done = 0; done < zeros.length; ) done += writeSync(fd, zeros, done, zeros.length - done, Number(offset) + good + done);
}
