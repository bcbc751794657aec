/** Elements of sets are read back as they were written; what an odd answer says is no connection. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Connection, connectionsOf, elements } from "./nft-sets.js";

const HEAD_BYTES = 4;

function connections(addressBytes: 4 | 16): Connection[] {
  const end = (seed: number, port: number) => ({ address: Buffer.alloc(addressBytes, seed), port });
  return [
    { here: end(1, 80), there: end(2, 40000) },
    { here: end(3, 65535), there: end(4, 1) },
  ];
}

for (const bytes of [4, 16] as const)
  test(`connections between addresses of ${bytes} bytes`, () => {
    const all = connections(bytes);
    const list = elements("here", all, bytes).subarray(HEAD_BYTES);
    assert.deepEqual(connectionsOf(list, bytes), all);
    const backwards = all.map(({ here, there }) => ({ here: there, there: here }));
    assert.deepEqual(connectionsOf(elements("there", all, bytes).subarray(HEAD_BYTES), bytes), backwards);
    assert.deepEqual(connectionsOf(list.subarray(0, -1), bytes), all.slice(0, 1));
    assert.deepEqual(connectionsOf(list, bytes === 4 ? 16 : 4), []);
  });
