/**
 * Files of /proc that hold one number or a list of them.
 */
import { bigDecimal, decimal, hex, procTextError } from "./text.js";

function content(bytes: Buffer, path: string): string {
  const text = bytes.toString("latin1").trim();
  if (text === "") throw procTextError(path, "it is empty");
  return text;
}

/** One decimal number: oom_score_adj, loginuid (4294967295: not set), sessionid, most of /proc/sys. */
export function parseDecimal(bytes: Buffer, path: string): number {
  return decimal(content(bytes, path), path);
}

/** One decimal number that may exceed 2^53, as in /proc/sys/kernel/shmall. */
export function parseBigDecimal(bytes: Buffer, path: string): bigint {
  return bigDecimal(content(bytes, path), path);
}

/** One hexadecimal number without 0x: personality, coredump_filter. */
export function parseHex(bytes: Buffer, path: string): number {
  return hex(content(bytes, path), path);
}

/** Decimal numbers with blanks between them, maybe none: /proc/PID/task/TID/children, /proc/sys/kernel/sem. */
export function parseDecimals(bytes: Buffer, path: string): number[] {
  const text = bytes.toString("latin1").trim();
  return text === "" ? [] : text.split(/\s+/).map((field) => decimal(field, path));
}
