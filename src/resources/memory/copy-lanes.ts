/**
 * Copying much memory out of a process, by several lanes at once.
 *
 * Made with   process_vm_readv(2) into a buffer that stays in the processor's cache, pwrite(2) from there; pread(2) on
 *             /proc/PID/mem for a process that shares pages with relatives (`precopy.ts`)
 *
 * Writing takes the lock of the file, so a second lane gains what reading costs: 1 GiB 0.44 s instead of 0.81 s (measured,
 * two processors, file in memory). More than two lanes would only wait for the lock.
 */
import { writeSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import { LaneWork, Lanes, nativeFunction, usefulLanes, writeIovec } from "../../linux/lanes.js";
import { IOVEC_BYTES, type MemoryRange, PAGE_BYTES } from "../../linux/memory.js";

export const COPY_CHUNK_BYTES = 256 << 10;
const BUFFER_OFFSET = 4096;
const MOST_LANES = 2;
const ENOSPC = 28;

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

/** Copies memory of a process into file `fd`; returns for each job how many bytes of whole pages could be read. */
export function copyByLanes({ pid, memory }: CopySource, fd: number, jobs: readonly CopyJob[]): number[] {
  if (memory === undefined) return copyJobs(pid, fd, { jobs, memory });
  // One range a call, and a call that fails ends its job: so each range is a job of its own.
  const parts = jobs.map(singleRanges);
  const got = copyJobs(pid, fd, { jobs: parts.flat(), memory });
  let at = 0;
  return parts.map((ofJob) => {
    const ends = ofJob.map(({ ranges }) => ({ bytes: got[at++] ?? 0, wanted: Number(ranges[0]?.sizeBytes ?? 0n) }));
    const short = ends.findIndex(({ bytes, wanted }) => bytes < wanted);
    return ends.slice(0, short < 0 ? ends.length : short + 1).reduce((sum, { bytes }) => sum + bytes, 0);
  });
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

function copyJobs(pid: number, fd: number, { jobs, memory }: { jobs: readonly CopyJob[]; memory: number | undefined }): number[] {
  using lanes = new Lanes({ areaBytes: BUFFER_OFFSET + COPY_CHUNK_BYTES, count: Math.min(MOST_LANES, usefulLanes()) });
  for (let i = 0; i < lanes.count; i++) {
    const { address, bytes } = lanes.area(i);
    writeIovec(bytes, 0, { address: address + BigInt(BUFFER_OFFSET), sizeBytes: BigInt(COPY_CHUNK_BYTES) });
  }
  const work = new LaneWork();
  const [readv, pread, pwrite] = [nativeFunction("process_vm_readv"), nativeFunction("pread"), nativeFunction("pwrite")];
  const calls = jobs.map(({ ranges, placements }) => {
    work.group();
    const [first] = ranges;
    const read =
      memory !== undefined && first !== undefined
        ? work.call(pread, memory, { inArea: BUFFER_OFFSET }, first.sizeBytes, first.address)
        : work.call(readv, pid, { inArea: 0 }, 1, iovecsOf(ranges), ranges.length, 0);
    const writes = placements.map((to) => work.call(pwrite, fd, { inArea: BUFFER_OFFSET + to.from }, to.sizeBytes, to.offset));
    return { read, writes };
  });
  lanes.run(work);
  return jobs.map((job, i) => {
    const { read, writes } = calls[i] as (typeof calls)[number];
    const result = work.result(read);
    if (result <= 0n) return 0;
    const got = Number(result) & ~(PAGE_BYTES - 1);
    writes.forEach((call, k) => {
      settle(fd, job.placements[k] as Placement, { got, wrote: Number(work.result(call)) });
    });
    return got;
  });
}

function iovecsOf(ranges: readonly MemoryRange[]): Buffer {
  const remote = Buffer.allocUnsafe(ranges.length * IOVEC_BYTES);
  ranges.forEach((range, i) => {
    writeIovec(remote, i * IOVEC_BYTES, range);
  });
  return remote;
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
