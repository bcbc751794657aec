import assert from "node:assert/strict";
import { test } from "node:test";
import type { XstateLayout } from "../../target/x86_64/xstate.js";
import { userX86FpregsEntry } from "./core-x86.schema.js";
import { fpregsFromImage, fpregsToImage } from "./core-x86.js";
import { decode } from "../../images/codec/decode.js";
import { encode } from "../../images/codec/encode.js";

/** Everything there is at once: processors with AMX have no bounds registers (MPX) any more. */
const layout: XstateLayout = {
  sizeBytes: 11008,
  supported: 0x602ffn,
  components: new Map(
    (
      [
        [2, 576, 256],
        [3, 832, 64],
        [4, 896, 64],
        [5, 1088, 64],
        [6, 1152, 512],
        [7, 1664, 1024],
        [9, 2688, 8],
        [17, 2752, 64],
        [18, 2816, 8192],
      ] as const
    ).map(([n, offset, sizeBytes]) => [n, { offset, sizeBytes }]),
  ),
};

function area(components: bigint): Buffer {
  const bytes = Buffer.alloc(layout.sizeBytes);
  bytes.writeUInt16LE(0x37f, 0);
  bytes.writeUInt32LE(0x1f80, 24);
  bytes.writeBigUInt64LE(components, 512);
  for (const [n, { offset, sizeBytes }] of layout.components) {
    if ((components >> BigInt(n)) & 1n) for (let i = 0; i < sizeBytes; i += 1) bytes[offset + i] = (i * 7 + n) & 0xff;
  }
  // The upper half of PKRU's eight bytes is reserved.
  if ((components >> 9n) & 1n) bytes.writeUInt32LE(0, 2692);
  return bytes;
}

for (const [title, components] of [
  ["all components with tiles", 0x602ffn],
  ["tiles that are idle", 0x2e7n],
  ["a tile configuration alone", 0x20007n],
] as const) {
  test(`the XSAVE area goes through an image: ${title}`, () => {
    const before = area(components);
    const entry = decode(userX86FpregsEntry, encode(userX86FpregsEntry, fpregsToImage(before, layout)), {
      file: "core.img",
      offsetBytes: 0,
    });
    assert.equal((entry.xsave?.xstate_bv ?? 0n) >> 17n, 0n, "other readers see no bits that they do not know");
    assert.deepEqual(fpregsFromImage(entry, layout), before);
  });
}

test("each part of the XSAVE area is as long in the image as CRIU wants it", () => {
  const { xsave } = fpregsToImage(area(0x602ffn), layout);
  assert.equal(xsave?.ymmh_space.length, 64);
  assert.equal(xsave?.bndreg_state.length, 8);
  assert.equal(xsave?.bndcsr_state.length, 8, "the component's 64 bytes, though two words of it are defined");
  assert.equal(xsave?.opmask_reg.length, 8);
  assert.equal(xsave?.zmm_upper.length, 64);
  assert.equal(xsave?.hi16_zmm.length, 128);
});
