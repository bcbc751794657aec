import assert from "node:assert/strict";
import { test } from "node:test";

import { COMMAND, LONG_BYTES, SHORT_BYTES, decodeDestination, decodeMessage, encodeDestination, encodeMessage, formOf } from "./wire.js";

const dst = encodeDestination({ kind: "PAGEMAP", id: 77n });

test("messages of both forms keep what is in them", () => {
  const message = { command: COMMAND.ADD_F, flags: 6, pages: 300n, vaddr: 0x7f00_0000_1000n, dst };
  for (const form of [SHORT_BYTES, LONG_BYTES] as const) {
    const bytes = encodeMessage(message, form);
    assert.equal(bytes.length, form);
    assert.deepEqual(decodeMessage(bytes), message);
  }
});

test("the form of a stream shows in its first 24 bytes", () => {
  const firsts = [
    { command: COMMAND.OPEN2, dst },
    { command: COMMAND.OPEN, dst },
    { command: COMMAND.PARENT, dst },
    { command: COMMAND.GET, pages: 1n, vaddr: 0x1000n, dst: 77n },
    { command: COMMAND.ADD_F, flags: 4, pages: 9n, vaddr: 0n, dst },
  ];
  for (const message of firsts) {
    for (const form of [SHORT_BYTES, LONG_BYTES] as const) {
      assert.equal(formOf(encodeMessage(message, form).subarray(0, SHORT_BYTES)), form, JSON.stringify(message.command));
    }
  }
  assert.equal(formOf(encodeMessage({ command: COMMAND.CLOSE }, SHORT_BYTES)), undefined);
});

test("a question in the short form with eight more bytes is the same question in the long form", () => {
  const rest = Buffer.alloc(8);
  rest.writeBigUInt64LE(dst);
  const longer = decodeMessage(Buffer.concat([encodeMessage({ command: COMMAND.PARENT, dst }, SHORT_BYTES), rest]));
  assert.equal(longer.command, COMMAND.PARENT);
  assert.equal(longer.dst, dst);
  assert.equal(longer.pages, 0n);
});

test("destinations are processes, objects, or neither", () => {
  for (const of of [
    { kind: "PAGEMAP", id: 1n },
    { kind: "SHMEM_PAGEMAP", id: 1n << 40n },
  ] as const) {
    assert.deepEqual(decodeDestination(encodeDestination(of)), of);
  }
  assert.equal(decodeDestination(0x7703n), undefined);
});
