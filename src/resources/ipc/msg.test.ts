import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ImageError } from "../../errors.js";
import { packMessages, unpackMessages } from "./msg.js";

const messages = [
  { type: 1n, text: Buffer.alloc(0) },
  { type: 0x7fff_ffff_ffff_ffffn, text: Buffer.from("nine byte") },
  { type: 3n, text: Buffer.from("8 bytes.") },
];

describe("messages of a queue in an image", () => {
  it("come back as they were, and say where they end", () => {
    const bytes = packMessages(messages);
    const found = unpackMessages(Buffer.concat([bytes, Buffer.from("next record")]), messages.length, "ipcns-msg-9.img");
    assert.deepEqual(found, { messages, used: bytes.length });
  });

  it("are refused when they are cut off", () => {
    const bytes = packMessages(messages);
    for (const length of [0, 3, 10, bytes.length - 1])
      assert.throws(() => unpackMessages(bytes.subarray(0, length), messages.length, "ipcns-msg-9.img"), ImageError);
  });
});
