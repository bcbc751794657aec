import assert from "node:assert/strict";
import { test } from "node:test";

import { findStructs, findTypes } from "./btf.js";

/** Types: int; union { a } without a name; struct s { x; <union>; y }; func_proto; func f. */
function example(): Buffer {
  const strings = Buffer.from("\0int\0s\0x\0y\0a\0f\0bits\0", "latin1");
  const name = (text: string) => strings.indexOf(`\0${text}\0`) + 1;
  const head = (kind: number, elements: number, flag = 0) => ((flag << 31) | (kind << 24) | elements) >>> 0;
  const words = [
    ...[name("int"), head(1, 0), 4, 0x20],
    ...[0, head(5, 1), 4, name("a"), 1, 0],
    ...[name("s"), head(4, 3, 1), 16, name("x"), 1, 0, 0, 2, 64, name("y"), 1, (3 << 24) | 96],
    ...[0, head(13, 1), 1, 0, 1],
    ...[name("f"), head(12, 0), 4],
  ];
  const types = Buffer.alloc(words.length * 4);
  words.forEach((word, i) => types.writeUInt32LE(word >>> 0, i * 4));
  const bytes = Buffer.alloc(24);
  bytes.writeUInt16LE(0xeb9f, 0);
  bytes.writeUInt8(1, 2);
  [24, 0, types.length, types.length, strings.length].forEach((word, i) => bytes.writeUInt32LE(word, 4 + i * 4));
  return Buffer.concat([bytes, types, strings]);
}

test("a function's id and the offsets of members are found, also inside members without a name", () => {
  const found = findTypes(example(), { function: "f", struct: "s", members: ["x", "a", "y"] });
  assert.deepEqual(found, { functionId: 5, offsets: [0, 8, 12] });
});

test("several structs are found in one go; a missing member is none where that is allowed", () => {
  assert.deepEqual(findStructs(example(), { s: ["y", "z?"], t: ["x"] }), { s: { sizeBytes: 16, at: { y: 12 } } });
  assert.deepEqual(findStructs(example(), { s: ["y", "z"] }), {});
});

test("what is not there is not found", () => {
  assert.equal(findTypes(example(), { function: "g", struct: "s", members: ["x"] }), undefined);
  assert.equal(findTypes(example(), { function: "f", struct: "int", members: ["x"] }), undefined);
  assert.equal(findTypes(example(), { function: "f", struct: "s", members: ["z"] }), undefined);
});

test("bytes that are cut off or none are no error", () => {
  const bytes = example();
  for (let length = 0; length < bytes.length; length++) {
    findTypes(bytes.subarray(0, length), { function: "f", struct: "s", members: ["x"] });
  }
  assert.equal(findTypes(Buffer.alloc(64), { function: "f", struct: "s", members: ["x"] }), undefined);
});
