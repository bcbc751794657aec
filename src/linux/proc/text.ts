/**
 * What all readers of /proc text share: numbers out of bytes, octal escapes, and the error of text that is cut off.
 *
 * The text of a process that dies while it is read ends early or is empty. That is no fault of the text but of the
 * moment, hence a {@link KernelError} with ESRCH and not an error of its own.
 */
import type { KernelError } from "../../errors.js";
import { ERRNO, kernelError } from "../errno.js";
import { textOf } from "../text.js";

/** The typed error for text of `path` that is cut off or malformed. */
export function procTextError(path: string, because: string): KernelError {
  return kernelError(`read("${path}")`, ERRNO.ESRCH, because);
}

const BACKSLASH = 0x5c;

/** Undoes the escapes `\ooo` that the kernel writes for bytes which would break a line apart, as in mountinfo. */
export function undoOctalEscapes(bytes: Buffer): Buffer {
  let from = bytes.indexOf(BACKSLASH);
  if (from < 0) return bytes;
  const out = Buffer.from(bytes);
  let to = from;
  while (from < bytes.length) {
    const value = bytes[from] === BACKSLASH ? octalAt(bytes, from + 1) : -1;
    out[to++] = value < 0 ? (bytes[from] ?? 0) : value;
    from += value < 0 ? 1 : 4;
  }
  return out.subarray(0, to);
}

function octalAt(bytes: Buffer, at: number): number {
  let value = 0;
  for (let i = at; i < at + 3; i++) {
    const digit = (bytes[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) return -1;
    value = value * 8 + digit;
  }
  return value <= 255 ? value : -1;
}

/** A decimal integer, or the typed error. */
export function decimal(text: string, path: string): number {
  if (!/^-?\d{1,16}$/.test(text)) throw procTextError(path, `"${text}" is not a number`);
  return Number.parseInt(text, 10);
}

/** A decimal integer of any size, or the typed error. */
export function bigDecimal(text: string, path: string): bigint {
  if (!/^-?\d{1,20}$/.test(text)) throw procTextError(path, `"${text}" is not a number`);
  return BigInt(text);
}

/** A hexadecimal number with or without 0x, or the typed error. */
export function bigHex(text: string, path: string): bigint {
  const digits = text.startsWith("0x") ? text.slice(2) : text;
  if (!/^[0-9a-fA-F]{1,16}$/.test(digits)) throw procTextError(path, `"${text}" is not a hexadecimal number`);
  return BigInt(`0x${digits}`);
}

/** A hexadecimal number below 2^53, or the typed error. */
export function hex(text: string, path: string): number {
  return Number(bigHex(text, path));
}

/** Text that was read byte by byte ("latin1") as the text it is; plain ASCII, the usual case, is returned as it is. */
export function utf8(latin1: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the class is "not ASCII", control characters included.
  return /[^\x00-\x7f]/.test(latin1) ? textOf(Buffer.from(latin1, "latin1")) : latin1;
}
