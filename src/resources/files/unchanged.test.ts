import assert from "node:assert/strict";
import { test } from "node:test";

import { parseLocks } from "../../linux/proc/locks.js";
import { leasedFiles } from "./unchanged.js";

const locks = (...inodes: readonly number[]) =>
  parseLocks(Buffer.from(inodes.map((inode, i) => `${i + 1}: LEASE  ACTIVE    WRITE 12 00:1f:${inode} 0 EOF\n`).join("")), "/proc/locks");

/** Gives one list after another, and the last again and again; counts. */
function readings(...lists: readonly (readonly number[])[]) {
  const asked = { count: 0, read: () => locks(...(lists[Math.min(asked.count++, lists.length - 1)] ?? [])) };
  return asked;
}

test("a lease that one reading of all locks leaves out is known by the next", () => {
  const asked = readings([5], [5, 7], [5, 7]);
  assert.deepEqual([...leasedFiles(asked.read)], [5n, 7n]);
  assert.equal(asked.count, 3);
  assert.deepEqual([...leasedFiles(readings([], [9], [9]).read)], [9n]);
  assert.deepEqual([...leasedFiles(readings([1, 2], [1]).read)], [1n, 2n]);
});

test("locks that never stop changing are read a few times", () => {
  let next = 0;
  assert.equal(leasedFiles(() => locks(next++)).size, 8);
});

test("where there are no leases, two readings are enough", () => {
  const asked = readings([]);
  assert.equal(leasedFiles(asked.read).size, 0);
  assert.equal(asked.count, 2);
});
