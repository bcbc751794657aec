import assert from "node:assert/strict";
import { test } from "node:test";

import { RecordCutter } from "./record-cutter.js";
import { COMMAND, LONG_BYTES, SHORT_BYTES, encodeMessage } from "./wire.js";

test("a stream of messages is cut at its messages and into full records, however it comes", () => {
  for (const form of [SHORT_BYTES, LONG_BYTES] as const) {
    const dst = 0x501n;
    const pages = Buffer.alloc(9 * 4096, 7);
    const messages = [
      encodeMessage({ command: COMMAND.OPEN2, dst }, form),
      encodeMessage({ command: COMMAND.ADD_F, flags: 4, pages: 9n, vaddr: 0x1000n, dst }, form),
      pages,
      encodeMessage({ command: COMMAND.ADD_F, flags: 1, pages: 3n, vaddr: 0x20000n, dst }, form),
      encodeMessage({ command: COMMAND.CLOSE }, form),
    ];
    const stream = Buffer.concat(messages);
    for (const step of [1, 7, 24, 4096, 20_000, stream.length]) {
      const cutter = new RecordCutter();
      const pieces: Buffer[] = [];
      for (let at = 0; at < stream.length; at += step) pieces.push(...cutter.cut(stream.subarray(at, at + step)));
      assert.deepEqual(
        pieces.map((piece) => piece.length),
        [form, form, 16_384, 16_384, 4096, form, form],
      );
      assert.ok(Buffer.concat(pieces).equals(stream));
    }
  }
});

test("what is no stream of messages is passed on as it comes", () => {
  const cutter = new RecordCutter();
  const text = Buffer.from("a text that is longer than any message is, and none");
  assert.ok(Buffer.concat(cutter.cut(text)).equals(text));
});
