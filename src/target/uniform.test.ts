import assert from "node:assert/strict";
import { test } from "node:test";
import { ENTRY_BYTES, Program, layOut } from "./program.js";
import { slotAt } from "./region.js";
import { Answers, UniformLayout } from "./uniform.js";

function example() {
  const program = new Program();
  const [out, text] = [program.buffer(24), program.cstring("/proc/self/x")];
  const opened = program.call(2, text, 0);
  const got = program.call(0, opened, out.at(8), 8);
  return { program, out, opened, got };
}

test("a program laid out once is, moved to another thread's memory, what it would be laid out there", () => {
  const slots = [1, 7].map((index) => slotAt(0x1f10_e000_0000n, index));
  const [first, other] = slots as [(typeof slots)[0], (typeof slots)[0]];
  const layout = new UniformLayout(example().program, first);
  const moved = Buffer.alloc(layout.bytes.length + 16);
  layout.write(moved, 16, Number(other.table));
  const { image } = layOut(example().program, 0, { base: other.table, capacity: other.tableBytes });
  assert.deepEqual(moved.subarray(16, 32), Buffer.alloc(16), "cleanup and end pointers are cleared");
  assert.deepEqual(Buffer.concat([moved.subarray(-ENTRY_BYTES), moved.subarray(32, -ENTRY_BYTES)]), image);
});

test("what came back is given to programs with the same calls, and to no others", () => {
  const { program } = example();
  const layout = new UniformLayout(program, slotAt(0x1f10_e000_0000n, 1));
  const memory = Buffer.alloc(layout.round.readBackBytes);
  layout.round.entries.forEach(({ index }, i) => {
    memory.writeBigInt64LE(BigInt(100 + i), index * ENTRY_BYTES + 56);
  });
  const [place] = layout.round.outputs;
  memory.write("answers", (place?.address ?? 0) - layout.base, "latin1");
  const mine = example();
  new Answers(layout, memory).give(mine.program);
  assert.equal(mine.opened.value, 100n);
  assert.equal(mine.got.value, 101n);
  assert.equal(mine.out.bytes().toString("latin1", 0, 7), "answers");
  const foreign = new Program();
  foreign.call(3, 1);
  assert.throws(() => new Answers(layout, memory).give(foreign), /is not what was asked of the other threads/);
});
