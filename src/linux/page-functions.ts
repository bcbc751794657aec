/**
 * Functions over many bytes that lanes can call, of machine code of our own: a checksum, and hashes of pages.
 */
import { viewMemory } from "./ffi/native.unsafe.js";
import type { NativeFunction } from "./lanes.js";
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_BYTES, PROT_EXEC, PROT_READ, PROT_WRITE, mmap, mprotect } from "./memory.js";

/** The bytes of pages.S; page-functions.test.ts assembles it and compares. */
export const PAGE_CODE: Uint8Array = Buffer.from(
  "b8ffffffff4889f148c1e903740ff2480f38f1074883c70848ffc975f183e607740cf20f38f00748ffc7ffce75f4f7d0" +
    "c366662e0f1f8400000000000f1f40004885f67434b8ffffffffb90100000041b800010000f2480f38f107f2480f38f1" +
    "4f084883c71041ffc875ea8902894a044883c20848ffce75cc31c0c3",
  "hex",
);
export const HASH_OFFSET = 0x40;

let code: bigint | undefined;

function codePage(): bigint {
  if (code !== undefined) return code;
  const range = {
    address: mmap({ sizeBytes: BigInt(PAGE_BYTES), protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS }),
    sizeBytes: BigInt(PAGE_BYTES),
  };
  viewMemory(range.address, PAGE_CODE.length).set(PAGE_CODE);
  mprotect(range, PROT_READ | PROT_EXEC);
  code = range.address;
  return code;
}

/** uint32_t checksum(const void *bytes, size_t length) — CRC-32C. */
export function checksumFunction(): NativeFunction {
  return codePage() as NativeFunction;
}

/** int hash(const void *pages, size_t count, uint64_t *out) — for each page of 4 KiB a number that equal pages have in common. */
export function hashFunction(): NativeFunction {
  return (codePage() + BigInt(HASH_OFFSET)) as NativeFunction;
}
