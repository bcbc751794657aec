/**
 * What commands say on standard output and standard error, written at once: the streams of `process.stdout` take longer to load than a
 * small process takes to be dumped.
 */
import { writeAll } from "../engine/log.js";

const STDOUT = 1;
const STDERR = 2;

/** All of it, also into a pipe that is full at the moment; nothing when nobody can read it. */
export function print(text: string): void {
  writeAll(STDOUT, text);
}

export function printError(text: string): void {
  writeAll(STDERR, text);
}
