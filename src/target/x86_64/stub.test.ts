import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CAVE, CAVE_CODE } from "./cave.js";
import { seedEntry } from "./seed-entry.js";
import { tileCode } from "./tiles.js";
import { STUB_CODE, STUB_PAUSE_OFFSET, STUB_STOP_OFFSET } from "./stub.js";

function assemble(name: string): { code: Buffer; symbols: Map<string, number> } {
  const directory = mkdtempSync(join(tmpdir(), "floe-stub-"));
  try {
    const object = join(directory, "a.o");
    const binary = join(directory, "a.bin");
    execFileSync("as", [join(import.meta.dirname, `${name}.S`), "-o", object]);
    execFileSync("objcopy", ["-O", "binary", "-j", ".text", object, binary]);
    const symbols = new Map(
      execFileSync("nm", [object], { encoding: "utf8" })
        .trim()
        .split("\n")
        .map((line) => line.split(" "))
        .map(([value, , symbol]) => [symbol ?? "", Number.parseInt(value ?? "", 16)] as const),
    );
    return { code: readFileSync(binary), symbols };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("the stub's bytes are what stub.S assembles to", () => {
  const { code, symbols } = assemble("stub");
  assert.equal(Buffer.from(STUB_CODE).toString("hex"), code.toString("hex"));
  assert.equal(symbols.get("pause"), STUB_PAUSE_OFFSET);
  const stop = code.subarray(0, STUB_STOP_OFFSET);
  assert.equal(stop.subarray(-2).toString("hex"), "0f05", "the stop lies behind a syscall instruction");
});

test("the cave's bytes are what cave.S assembles to", () => {
  const { code, symbols } = assemble("cave");
  assert.equal(Buffer.from(CAVE_CODE).toString("hex"), code.toString("hex"));
  assert.equal(symbols.get("mask"), CAVE.mask);
  assert.equal(symbols.get("slots"), CAVE.slots);
  assert.equal(symbols.get("target"), CAVE.target);
  assert.equal(code.subarray(CAVE.jump, CAVE.jump + 2).toString("hex"), "ff25");
});

test("where the seed begins is what seed.S assembles to", () => {
  const { code, symbols } = assemble("seed");
  assert.equal(seedEntry(0).toString("hex"), code.toString("hex"));
  assert.equal(seedEntry(0x11223344).readInt32LE(symbols.get("parent")), 0x11223344);
});

test("the code that uses a tile is what tiles.S assembles to", () => {
  const { code, symbols } = assemble("tiles");
  assert.equal(tileCode(0n).toString("hex"), code.toString("hex"));
  assert.equal(tileCode(0x1122334455667788n).readBigUInt64LE(symbols.get("next")), 0x1122334455667788n);
});
