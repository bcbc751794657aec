import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LANE_CODE, LaneWork, Lanes, nativeFunction, nativeLibrary } from "./lanes.js";

test("the code of lanes is what lanes.S assembles to", () => {
  const directory = mkdtempSync(join(tmpdir(), "floe-lanes-"));
  try {
    const object = join(directory, "a.o");
    const binary = join(directory, "a.bin");
    execFileSync("as", [join(import.meta.dirname, "ffi", "lanes.S"), "-o", object]);
    execFileSync("objcopy", ["-O", "binary", "-j", ".text", object, binary]);
    assert.equal(Buffer.from(LANE_CODE).toString("hex"), readFileSync(binary).toString("hex"));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("lanes make all calls of all groups once, each lane in its own area", () => {
  const directory = mkdtempSync(join(tmpdir(), "floe-lanes-"));
  const path = join(directory, "out");
  const fd = openSync(path, "w+");
  try {
    using lanes = new Lanes({ areaBytes: 8192, count: 3 });
    const work = new LaneWork();
    const calls: number[] = [];
    for (let i = 0; i < 1000; i++) {
      work.group();
      work.call(nativeFunction("memset"), { inArea: 16 }, i % 251, 64);
      calls.push(work.call(nativeFunction("pwrite"), fd, { inArea: 16 }, 64, i * 64));
    }
    lanes.run(work);
    assert.ok(calls.every((call) => work.result(call) === 64n));
    const bytes = readFileSync(path);
    assert.equal(bytes.length, 64_000);
    for (let i = 0; i < 1000; i++) assert.ok(bytes.subarray(i * 64, i * 64 + 64).every((byte) => byte === i % 251));
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
});

test("a call that fails ends its group, and only that", () => {
  using lanes = new Lanes({ areaBytes: 4096, count: 2 });
  const work = new LaneWork();
  work.group();
  const failing = work.call(nativeFunction("pwrite"), -1, { inArea: 0 }, 1, 0);
  const never = work.call(nativeFunction("getpid"));
  work.group();
  const made = work.call(nativeFunction("getpid"));
  lanes.run(work);
  assert.equal(work.result(failing), -1n);
  assert.equal(work.result(never), 0n);
  assert.equal(work.resultInt(made), process.pid);
});

test("each group is done once, by a lane in the way that it has", () => {
  using lanes = new Lanes({ areaBytes: 4096, count: 2 });
  const ways = [new LaneWork(), new LaneWork()] as const;
  const calls = Array.from({ length: 1000 }, (_, i) =>
    ways.map((work, way) => {
      work.group();
      return work.call(nativeFunction("abs"), -(2 * i + way + 1));
    }),
  );
  lanes.start(...ways).join();
  calls.forEach((pair, i) => {
    const results = pair.map((call, way) => Number(ways[way as 0 | 1].result(call)));
    assert.equal(results.filter((result) => result !== 0).length, 1);
    results.forEach((result, way) => {
      assert.ok(result === 0 || result === 2 * i + way + 1);
    });
  });
});

test("no work is no thread", () => {
  using lanes = new Lanes({ areaBytes: 1 });
  lanes.run(new LaneWork());
});

test("a library that is not there is undefined", () => {
  assert.equal(nativeLibrary("libfloe-no-such-thing.so.9", ["nothing"]), undefined);
});
