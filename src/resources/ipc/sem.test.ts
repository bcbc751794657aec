import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { undoOperations } from "./sem.js";

const SEM_UNDO = 0x1000;

/** What the kernel does with the operations of one call: the value never leaves its limits. */
function carriedOut(operations: Buffer, value: number): { value: number; undone: number } {
  let undone = 0;
  for (let at = 0; at < operations.length; at += 6) {
    const by = operations.readInt16LE(at + 2);
    value += by;
    assert.ok(value >= 0 && value <= 32767, `the value would be ${value}`);
    if (operations.readInt16LE(at + 4) & SEM_UNDO) undone -= by;
  }
  return { value, undone };
}

describe("what is to be undone of a semaphore", () => {
  it("is set without changing the semaphore, wherever that stands", () => {
    for (const by of [-32767, -20000, -16384, -1, 1, 5, 16384, 16385, 32767])
      for (const value of [0, 1, 16383, 16384, 20000, 32766, 32767])
        assert.deepEqual(carriedOut(undoOperations({ semaphore: 3, by }, value), value), { value, undone: by });
  });
});
