/**
 * getrandom(2). To load node:crypto for some bytes takes longer than most of what a small dump does.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

/** ssize_t getrandom(void *buf, size_t buflen, 0) — until all of `into` is filled, which it returns. */
export function fillRandomly<T extends Uint8Array>(into: T): T {
  for (let at = 0; at < into.length; ) {
    const rest = into.subarray(at);
    at += checked(syscallNumber(SYS.getrandom, rest, rest.length, 0), () => `getrandom(${rest.length} bytes)`);
  }
  return into;
}
