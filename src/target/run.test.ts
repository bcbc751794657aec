import assert from "node:assert/strict";
import { test } from "node:test";
import { slotAt } from "./region.js";
import { piecesToStart } from "./run.js";
import { TracedTask, TracedThread } from "./thread.js";

test("a program's first entry is written last, after what cleans up behind it", () => {
  const thread = new TracedThread(new TracedTask(1, "task"), 1);
  const slot = slotAt(0x1000_0000n, 0);
  const table = Buffer.alloc(192, 1);
  const addresses = () => piecesToStart(thread, slot, table).map(({ address }) => address);
  assert.deepEqual(addresses(), [slot.frame + 32n, slot.table]);
  thread.closeOnDeath([5, -1]);
  assert.deepEqual(addresses(), [slot.cleanup, slot.frame + 32n, slot.table]);
  thread.isAtStart = true;
  assert.deepEqual(addresses(), [slot.cleanup, slot.frame + 32n, slot.table + 64n, slot.table]);
  const pieces = piecesToStart(thread, slot, table);
  assert.equal(Buffer.from(pieces[1]?.bytes ?? []).readBigUInt64LE(0), slot.cleanup);
  assert.equal(
    pieces.slice(2).reduce((sum, { bytes }) => sum + bytes.length, 0),
    table.length,
  );
});
