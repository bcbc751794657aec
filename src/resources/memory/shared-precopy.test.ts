import assert from "node:assert/strict";
import { test } from "node:test";
import { samePages, sharedKey } from "./shared-precopy.js";

const at = (pid: number, start: bigint, end: bigint, offset: bigint) => ({ pid, start, end, offset });

test("mappings that are cut elsewhere show the same pages", () => {
  const whole = [at(1, 0x1000n, 0x5000n, 0n), at(2, 0x1000n, 0x2000n, 0x1000n)];
  const cut = [at(2, 0x1000n, 0x2000n, 0x1000n), at(1, 0x3000n, 0x5000n, 0x2000n), at(1, 0x1000n, 0x3000n, 0n)];
  assert.ok(samePages(whole, cut));
});

test("a mapping that is gone, has moved or shows other pages does not", () => {
  const one = [at(1, 0x1000n, 0x5000n, 0n)];
  assert.ok(!samePages(one, []));
  assert.ok(!samePages(one, [at(1, 0x1000n, 0x4000n, 0n)]));
  assert.ok(!samePages(one, [at(1, 0x2000n, 0x6000n, 0n)]));
  assert.ok(!samePages(one, [at(1, 0x1000n, 0x5000n, 0x1000n)]));
  assert.ok(!samePages(one, [at(2, 0x1000n, 0x5000n, 0n)]));
  assert.ok(!samePages(one, [at(1, 0x1000n, 0x3000n, 0n), at(1, 0x3000n, 0x5000n, 0x4000n)]));
});

test("a segment and an inode with one number are two objects", () => {
  assert.notEqual(sharedKey(true, { dev: 1n, ino: 5n }), sharedKey(false, { dev: 1n, ino: 5n }));
});
