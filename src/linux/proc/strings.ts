/**
 * /proc/PID/cmdline, environ and comm: strings of a process.
 */
import { textOf } from "../text.js";
import { procTextError } from "./text.js";

/**
 * Strings that end in NUL each, as in cmdline and environ; empty for kernel threads and zombies.
 *
 * A process may have overwritten its own: then the last one has no NUL.
 */
export function parseStrings(bytes: Buffer): string[] {
  if (bytes.length === 0) return [];
  const text = textOf(bytes);
  return (text.endsWith("\0") ? text.slice(0, -1) : text).split("\0");
}

/** The name in comm, at most 15 bytes; it may hold a newline of its own before the one that ends the file. */
export function parseComm(bytes: Buffer, path: string): string {
  if (bytes.at(-1) !== 0x0a) throw procTextError(path, "it is cut off");
  return textOf(bytes.subarray(0, -1));
}
