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

const UUID_BYTES = 16;

/** A random UUID (RFC 9562, version 4), as crypto.randomUUID() gives it, which would bring up a generator of its own first. */
export function randomUuid(): string {
  const bytes = fillRandomly(Buffer.alloc(UUID_BYTES));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
