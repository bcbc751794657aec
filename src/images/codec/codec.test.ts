import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ImageError } from "../../errors.js";
import { Alike, decode } from "./decode.js";
import { MessageWriter, encode } from "./encode.js";
import { enumeration, message, optional, repeated, required } from "./schema.js";

const where = { file: "test.img", offsetBytes: 100 };
const colour = enumeration("colour", { RED: 0, BLUE: -2 });
const inner = message("inner", () => ({ a: required.uint32(1), b: optional.string(2) }));
const all = message("all", () => ({
  u32: optional.uint32(1),
  i32: optional.int32(2),
  s32: optional.sint32(3),
  f32: optional.fixed32(4),
  u64: optional.uint64(5),
  i64: optional.int64(6),
  s64: optional.sint64(7),
  f64: optional.fixed64(8),
  yes: optional.bool(9),
  text: optional.string(10),
  raw: optional.bytes(11),
  sort: optional.enum(12, () => colour),
  one: optional.message(13, () => inner),
  many: repeated.message(14, () => inner),
  numbers: repeated.uint32(15),
  large: repeated.uint64(2047),
}));

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const fails = (bytes: string, pattern: RegExp): void => {
  assert.throws(
    () => decode(all, hex(bytes), where),
    (error: unknown) => error instanceof ImageError && error.code === "IMAGE_BAD_MESSAGE" && pattern.test(error.message),
  );
};

describe("encode and decode", () => {
  it("carry the extreme values of every type", () => {
    const values = [
      { u32: 0xffffffff, i32: -0x80000000, s32: -0x80000000, f32: 0xffffffff, sort: -2 },
      { u32: 0, i32: 0x7fffffff, s32: 0x7fffffff, f32: 0, sort: 0 },
      { u64: 0xffffffffffffffffn, i64: -0x8000000000000000n, s64: -0x8000000000000000n, f64: 0xffffffffffffffffn },
      { u64: 0n, i64: 0x7fffffffffffffffn, s64: 0x7fffffffffffffffn, f64: 1n },
      { yes: true, text: "grüße 🧊 \u0000", raw: new Uint8Array([0, 255, 128]) },
      { yes: false, text: "", raw: new Uint8Array(0) },
    ];
    for (const value of values) {
      const read = decode(all, encode(all, { many: [], numbers: [], large: [], ...value }), where);
      assert.deepEqual(
        { ...read, raw: read.raw === undefined ? undefined : new Uint8Array(read.raw) },
        { many: [], numbers: [], large: [], raw: undefined, ...value },
      );
    }
  });

  it("carry every power of two, and the numbers beside it", () => {
    const large: bigint[] = [];
    for (let bit = 0n; bit <= 64n; bit++) for (const d of [-1n, 0n, 1n]) large.push(BigInt.asUintN(64, (1n << bit) + d));
    const numbers = large.map((n) => Number(BigInt.asUintN(32, n)));
    const read = decode(all, encode(all, { many: [], numbers, large }), where);
    assert.deepEqual(read.large, large);
    assert.deepEqual(read.numbers, numbers);
  });

  it("write the bytes that the wire format asks for", () => {
    const bytes = encode(all, { u32: 300, i32: -1, s32: -1, text: "é", one: { a: 1 }, many: [], numbers: [1, 2], large: [] });
    assert.equal(bytes.toString("hex"), "08ac02" + "10ffffffffffffffffff01" + "1801" + "5202c3a9" + "6a020801" + "78017802");
  });

  it("put lengths of several bytes before nested messages", () => {
    const many = [1, 127, 128, 16383, 16384, 3_000_000].map((n, a) => ({ a, b: "x".repeat(n) }));
    const value = { many, numbers: [], large: [] };
    assert.deepEqual(decode(all, encode(all, value), where), value);
  });

  it("leave a missing optional field away and make a missing repeated one empty", () => {
    assert.deepEqual(decode(all, Buffer.alloc(0), where), { many: [], numbers: [], large: [] });
  });

  it("read packed numbers", () => {
    assert.deepEqual(decode(all, hex("7a 04 01 ac02 03"), where).numbers, [1, 300, 3]);
  });

  it("keep the last value of a field that comes twice", () => {
    assert.equal(decode(all, hex("08 01 08 02"), where).u32, 2);
  });

  it("keep unknown fields at their places", () => {
    const bytes = hex("c83e 05 08 01 c03e 07 10 02 6a 07 08 01 d2 3e 02 6869 f5 3e 01020304 f13e 0102030405060708");
    assert.deepEqual(encode(all, decode(all, bytes, where)), bytes);
  });

  it("keep bytes that are not UTF-8 in strings", () => {
    for (const text of ["ff", "61ff62", "c3", "eda080", "c080", "f4908080", "efbfbd", "efbfbdff", "f09f8f", "61c328ff00"]) {
      const bytes = Buffer.concat([Buffer.from([0x52, text.length / 2]), hex(text)]);
      assert.deepEqual(encode(all, decode(all, bytes, where)), bytes, text);
    }
  });

  it("write records one behind the other", () => {
    const writer = new MessageWriter();
    writer.record(inner, { a: 1 });
    writer.raw(hex("ff"));
    writer.record(inner, { a: 2, b: "x" });
    assert.equal(writer.written().toString("hex"), "02000000" + "0801" + "ff" + "05000000" + "0802120178");
  });

  it("refuse a number that a field cannot hold", () => {
    assert.throws(() => encode(inner, { a: 2 ** 32 }), /inner\.a cannot be 4294967296/);
    assert.throws(() => encode(inner, { a: 0.5 }), /inner\.a/);
  });
});

describe("decode names what is wrong", () => {
  it("a number that is cut off, with file, offset, message and field", () => {
    assert.throws(() => decode(all, hex("08 01 10 ff"), where), {
      name: "ImageError",
      message: 'Cannot read image "test.img" at byte 103 (all.i32): a number is cut off or too long',
      place: { file: "test.img", offsetBytes: 103, message: "all", field: "i32" },
    });
  });
  it("a number of more than ten bytes", () => fails("08 ffffffffffffffffffffff01", /all\.u32/));
  it("a length beyond the end", () => fails("52 05 61", /5 bytes are announced, 1 are left/));
  it("a length of 2^63", () => fails("52 ffffffffffffffff7f 61", /are announced/));
  it("an inner field that reaches beyond its message", () => fails("6a 03 08 01 12 05 6161616161", /inner\.b/));
  it("a missing required field", () => fails("6a 02 12 00", /inner\.a\): a required field is missing/));
  it("a wrong wire type", () => fails("0a 01 00", /wire type 2, not 0/));
  it("field number 0", () => fails("00 00", /impossible tag/));
  it("an unknown field that is cut off", () => fails("f13e 01020304", /unknown field 1006 is cut off/));
  it("a group", () => fails("f33e 00", /wire type 3/));
  it("messages nested without end", () => {
    const nested = message("nested", () => ({ next: optional.message(1, (): typeof inner => nested as unknown as typeof inner) }));
    let bytes: Buffer = Buffer.alloc(0);
    for (let i = 0; i < 100; i++) bytes = Buffer.concat([Buffer.from([0x0a, 0x80 | (bytes.length & 0x7f), bytes.length >> 7]), bytes]);
    assert.throws(() => decode(nested, bytes, where), /nested deeper than 64/);
  });
});

describe("many numbers in one field", () => {
  const lists = message("lists", () => ({ near: repeated.uint64(3), far: repeated.uint32(16), last: required.uint32(17) }));
  const value = { near: [0n, 1n, 127n, 128n, 0n, 1n << 63n, 5n, 5n], far: [0, 1, 127, 128, 0, 4294967295, 0, 0], last: 7 };
  // The tag of field 16 has two bytes, of which the first is a number of its own.
  it("come back as they were", () => assert.deepEqual(decode(lists, encode(lists, value), where), value));
  it("are cut off anywhere", () => {
    const bytes = encode(lists, { near: [0n, 0n], far: [], last: 7 });
    assert.throws(() => decode(lists, bytes.subarray(0, 3), where), /lists\.near\): a number is cut off/);
  });
});

describe("messages that are often alike", () => {
  const outer = message("outer", () => ({
    one: optional.message(1, () => inner, { alike: true }),
    other: optional.message(2, () => inner),
  }));
  const read = (alike: Alike, a: number, b: string) =>
    decode(outer, encode(outer, { one: { a, b }, other: { a, b } }), { ...where, alike });

  it("are one object when they come again byte for byte, in fields that say so", () => {
    const alike = new Alike();
    const [first, second] = [read(alike, 1, "x"), read(alike, 1, "x")];
    assert.equal(first.one, second.one);
    assert.notEqual(first.other, second.other);
    assert.deepEqual(second, { one: { a: 1, b: "x" }, other: { a: 1, b: "x" } });
  });
  it("are read when anything differs", () => {
    const alike = new Alike();
    read(alike, 1, "x");
    assert.deepEqual(read(alike, 2, "x").one, { a: 2, b: "x" });
    assert.deepEqual(read(alike, 2, "xy").one, { a: 2, b: "xy" });
    assert.deepEqual(read(alike, 1, "x").one, { a: 1, b: "x" });
  });
  it("are not kept when they are damaged", () => {
    const alike = new Alike();
    const bytes = hex("0a 02 12 00");
    for (let i = 0; i < 2; i++) assert.throws(() => decode(outer, bytes, { ...where, alike }), /inner\.a\): a required field is missing/);
  });
});
