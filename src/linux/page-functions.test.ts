import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LaneWork, Lanes } from "./lanes.js";
import { HASH_OFFSET, PAGE_CODE, checksumFunction, hashFunction } from "./page-functions.js";

test("the code of the page functions is what pages.S assembles to", () => {
  const directory = mkdtempSync(join(tmpdir(), "floe-pages-"));
  try {
    const [object, binary] = [join(directory, "a.o"), join(directory, "a.bin")];
    execFileSync("as", [join(import.meta.dirname, "ffi", "pages.S"), "-o", object]);
    execFileSync("objcopy", ["-O", "binary", "-j", ".text", object, binary]);
    assert.equal(Buffer.from(PAGE_CODE).toString("hex"), readFileSync(binary).toString("hex"));
    assert.match(execFileSync("nm", [object], { encoding: "utf8" }), new RegExp(`0*${HASH_OFFSET.toString(16)} t hash`));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("the checksum is CRC-32C of all bytes, whatever their number", () => {
  const work = new LaneWork();
  const text = Buffer.from("123456789");
  work.group();
  const known = work.call(checksumFunction(), text, 9);
  const none = work.call(checksumFunction(), text, 0);
  const zeros = work.call(checksumFunction(), Buffer.alloc(32), 32);
  using lanes = new Lanes({ areaBytes: 1 });
  lanes.run(work);
  assert.equal(work.result(known), 0xe3069283n);
  assert.equal(work.result(none), 0n);
  assert.equal(work.result(zeros), 0x8a9136aan);
});

test("pages have the same hash when they are equal, and another one when a bit differs", () => {
  const pages = Buffer.alloc(4 * 4096, 7);
  pages[4096 + 4095] = 8;
  pages[3 * 4096 + 8] = 6;
  const out = Buffer.alloc(4 * 8);
  const work = new LaneWork();
  work.group();
  work.call(hashFunction(), pages, 4, out);
  using lanes = new Lanes({ areaBytes: 1 });
  lanes.run(work);
  const [a, b, c, d] = [0, 8, 16, 24].map((at) => out.readBigUInt64LE(at));
  assert.equal(a, c);
  assert.equal(new Set([a, b, d]).size, 3);
});
