import assert from "node:assert/strict";
import { closeSync, readSync } from "node:fs";
import { test } from "node:test";
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MFD_CLOEXEC,
  PROT_READ,
  PROT_WRITE,
  memfdCreate,
  mmap,
  munmap,
  ownMemory,
} from "../../linux/memory.js";
import { copySparse } from "./copy-sparse.js";

const PAGE = 4096n;

test("few pages that lie apart go to their places, or none of them counts when one cannot be read", () => {
  const sizeBytes = 8n * PAGE;
  const address = mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS });
  const fd = memfdCreate("floe-test", MFD_CLOEXEC);
  try {
    const memory = ownMemory({ address, sizeBytes });
    for (let page = 0; page < 8; page++) memory.fill(page + 1, page * 4096, (page + 1) * 4096);
    const at = (page: number) => address + BigInt(page) * PAGE;
    const batch = [
      { address: at(1), sizeBytes: PAGE },
      { address: at(4), sizeBytes: 2n * PAGE },
    ];
    const places = {
      of: () => [
        { from: 0, sizeBytes: 4096, offset: 4096n },
        { from: 8192, sizeBytes: 4096, offset: 0n },
      ],
    };
    assert.equal(copySparse(process.pid, [batch], { places, fd }), true);
    const got = Buffer.alloc(8192);
    assert.equal(readSync(fd, got, 0, 8192, 0), 8192);
    assert.ok(got.subarray(0, 4096).every((byte) => byte === 6) && got.subarray(4096).every((byte) => byte === 2));
    munmap({ address: at(5), sizeBytes: PAGE });
    assert.equal(copySparse(process.pid, [batch], { places, fd }), false);
    assert.equal(copySparse(process.pid, [[{ address, sizeBytes: 9n << 20n }]], { places, fd }), false);
  } finally {
    closeSync(fd);
    munmap({ address, sizeBytes });
  }
});
