/**
 * /proc/PID/auxv, proc_pid_auxv(5): the auxiliary vector, getauxval(3). Types: uapi/linux/auxvec.h.
 */
import { procTextError } from "./text.js";

export const AT_NULL = 0;
export const AT_PHDR = 3;
export const AT_PAGESZ = 6;
export const AT_BASE = 7;
export const AT_ENTRY = 9;
export const AT_CLKTCK = 17;
export const AT_RANDOM = 25;
export const AT_EXECFN = 31;
export const AT_SYSINFO_EHDR = 33;

/** The vector as 64-bit numbers, type and value in turn, the closing AT_NULL pair included. */
export function parseAuxv(bytes: Buffer, path: string): bigint[] {
  if (bytes.length % 16 !== 0) throw procTextError(path, `it has ${bytes.length} bytes, which is no multiple of 16`);
  return Array.from({ length: bytes.length / 8 }, (_, i) => bytes.readBigUInt64LE(i * 8));
}

/** Value of the first entry of `type`, or undefined. */
export function auxvValue(vector: readonly bigint[], type: number): bigint | undefined {
  for (let i = 0; i + 1 < vector.length; i += 2) if (vector[i] === BigInt(type)) return vector[i + 1];
  return undefined;
}
