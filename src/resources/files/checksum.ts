/**
 * A checksum of a file that has no build id: how a later restore sees that a file is another one of the same size.
 *
 * It is the CRC-32C (Castagnoli) of blocks of 4 KiB that begin at multiples of a step: of the whole file, or of some 256 blocks
 * all over a long one, so that it costs milliseconds at most.
 */
import { closeSync, constants, readSync } from "node:fs";
import { openToLook } from "../watches/listeners.js";

/**
 * reg_file_entry.checksum_config of this kind of checksum, a number of our own: CRIU has the fields, but up to 4.2 neither
 * writes nor compares them. checksum_parameter is the step.
 */
export const CHECKSUM_OF_BLOCKS = 1000;

const BLOCK_BYTES = 4096;
const BLOCKS = 256;
const POLYNOMIAL = 0x82f63b78;

let table: Uint32Array | undefined;

/** Of each byte; made when it is first needed, which takes longer than all else that this module does at its start. */
function tableOfBytes(): Uint32Array {
  table ??= new Uint32Array(256).map((_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    return value;
  });
  return table;
}

/** CRC-32C of `bytes`, going on from that of what came before. */
export function crc32c(bytes: Uint8Array, before = 0): number {
  const table = tableOfBytes();
  let crc = ~before;
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff] as number) ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** The step for a file of this size. */
export function stepFor(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / BLOCKS / BLOCK_BYTES)) * BLOCK_BYTES;
}

/** The checksum of the file that `path` leads to; undefined when it cannot be read. Reading it does not show. */
export function checksumOf(path: string, of: { sizeBytes: number; step: number; isHeard?: boolean }): number | undefined {
  const { sizeBytes, step, isHeard = false } = of;
  if (step < BLOCK_BYTES || sizeBytes / step > BLOCKS + 1) return undefined;
  const fd = openToLook(path, { isHeard, flags: constants.O_RDONLY | constants.O_NOATIME | constants.O_NONBLOCK });
  if (fd === undefined) return undefined;
  try {
    const block = Buffer.alloc(BLOCK_BYTES);
    let crc = 0;
    for (let at = 0; at < sizeBytes; at += step) crc = crc32c(block.subarray(0, readSync(fd, block, 0, BLOCK_BYTES, at)), crc);
    return crc;
  } catch {
    return undefined; // another kind of file than it seems, as those of the kernel's own file systems
  } finally {
    closeSync(fd);
  }
}
