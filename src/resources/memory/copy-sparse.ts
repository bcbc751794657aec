/**
 * Copying few pages that lie far apart, out of a process that runs: those that were written since the round of copying before.
 *
 * Made with   process_vm_readv(2) of up to a thousand ranges, pwrite(2)
 *
 * Lanes (`copy-lanes.ts`) take longer to be made and told what to do than to copy so little.
 */
import { writeSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import type { MemoryRange } from "../../linux/memory.js";
import { gatherFromProcess } from "../../linux/ptrace.js";
import { COPY_CHUNK_BYTES, type Placement } from "./copy-lanes.js";

/** More is sooner copied by two processors. */
const MOST_BYTES = 8 << 20;

/** Where the bytes of batches belong, which are asked for in ascending order. */
export interface PlacesOfBatches {
  of(batch: readonly MemoryRange[]): Placement[];
}

let buffer: Buffer | undefined;

/** Copies batches, each of at most a chunk; false when it is too much, or not all of it can be read: then what is in the file is of no use. */
export function copySparse(pid: number, all: readonly (readonly MemoryRange[])[], to: { places: PlacesOfBatches; fd: number }): boolean {
  if (all.reduce((sum, batch) => sum + sizeOf(batch), 0) > MOST_BYTES) return false;
  buffer ??= Buffer.allocUnsafeSlow(COPY_CHUNK_BYTES);
  for (const batch of all) {
    const bytes = sizeOf(batch);
    const where = batch.flatMap(({ address, sizeBytes }) => [Number(address), Number(sizeBytes)]);
    if (gatherFromProcess(pid, buffer.subarray(0, bytes), where) !== bytes) return false;
    for (const place of to.places.of(batch)) write(to.fd, buffer, place);
  }
  return true;
}

function sizeOf(batch: readonly MemoryRange[]): number {
  return batch.reduce((sum, { sizeBytes }) => sum + Number(sizeBytes), 0);
}

function write(fd: number, from: Buffer, place: Placement): void {
  try {
    for (let done = 0; done < place.sizeBytes; ) {
      done += writeSync(fd, from, place.from + done, place.sizeBytes - done, Number(place.offset) + done);
    }
  } catch (error) {
    const { errno = -5 } = error as NodeJS.ErrnoException;
    throw kernelError("pwrite of memory copied ahead", errno, `writing ${place.sizeBytes} bytes`);
  }
}
