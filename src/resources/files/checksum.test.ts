import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { checksumOf, crc32c, stepFor } from "./checksum.js";

describe("the checksum of a file", () => {
  it("is the CRC-32C of RFC 3720", () => {
    assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
    assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
    assert.equal(crc32c(Buffer.from("56789"), crc32c(Buffer.from("1234"))), 0xe3069283);
  });

  it("covers all of a short file, and blocks all over a long one", () => {
    assert.equal(stepFor(0), 4096);
    assert.equal(stepFor(1 << 20), 4096);
    assert.equal(stepFor((1 << 20) + 1), 8192);
    const folder = mkdtempSync(join(tmpdir(), "floe-test-"));
    try {
      const path = join(folder, "file");
      const bytes = Buffer.alloc(3 << 20, 7);
      const sum = (at: number) => {
        const changed = Buffer.from(bytes);
        changed[at] = 8;
        writeFileSync(path, changed);
        return checksumOf(path, { sizeBytes: bytes.length, step: stepFor(bytes.length) });
      };
      assert.notEqual(sum(0), sum(1));
      assert.notEqual(sum(stepFor(bytes.length) * 100), sum(0));
      writeFileSync(path, "123456789");
      assert.equal(checksumOf(path, { sizeBytes: 9, step: 4096 }), 0xe3069283);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("is not looked for with an impossible step, or in a file that is not there", () => {
    assert.equal(checksumOf("/proc/self/exe", { sizeBytes: 1 << 30, step: 1 }), undefined);
    assert.equal(checksumOf("/proc/self/exe", { sizeBytes: 1 << 30, step: 4096 }), undefined);
    assert.equal(checksumOf("/no/such/file", { sizeBytes: 10, step: 4096 }), undefined);
  });
});
