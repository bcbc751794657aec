import assert from "node:assert/strict";
import { test } from "node:test";

import { partsToProtect } from "./precopy.js";

const range = (start: number, end: number) => ({ start: BigInt(start), end: BigInt(end) });

test("what is protected in one stop has no more pages than allowed, and all parts together are the mappings", () => {
  const mappings = [range(0x1000, 0x9000), range(0x20000, 0x21000), range(0x30000, 0x80000)];
  const present = [range(0, 0x3000), range(0x5000, 0x9000), range(0x30000, 0x31000), range(0x70000, 0x90000)];
  const parts = [...partsToProtect(mappings, present, 0x4000n)];
  assert.deepEqual(parts[0], [range(0x1000, 0x7000)]);
  assert.deepEqual(parts[1], [range(0x7000, 0x9000), range(0x20000, 0x21000), range(0x30000, 0x71000)]);
  assert.equal(parts.length, 6);
  const joined = parts.flat().reduce((all: { start: bigint; end: bigint }[], part) => {
    const last = all.at(-1);
    if (last?.end === part.start) last.end = part.end;
    else all.push({ ...part });
    return all;
  }, []);
  assert.deepEqual(joined, mappings);
  assert.deepEqual([...partsToProtect([], present, 0x1000n)], []);
  assert.deepEqual([...partsToProtect([range(0x100000, 0x200000)], present, 0x1000n)], [[range(0x100000, 0x200000)]]);
});
