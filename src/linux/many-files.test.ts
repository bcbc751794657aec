import assert from "node:assert/strict";
import { closeSync, fstatSync, mkdtempSync, readFileSync, readdirSync, readSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { glanceAt, growDescriptors, isPlainName, openMany } from "./many-files.js";

function inFolder(use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "floe-many-"));
  try {
    use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("a glance tells mode and size of each file, and nothing of one that is not there", () => {
  inFolder((folder) => {
    const paths = Array.from({ length: 50 }, (_, i) => join(folder, `file ${i}`));
    paths.forEach((path, i) => writeFileSync(path, "x".repeat(i), { mode: i % 2 === 0 ? 0o600 : 0o640 }));
    rmSync(paths[7] as string);
    const seen = glanceAt([...paths, folder]);
    assert.equal(seen[7], undefined);
    assert.equal(seen[50]?.mode, statSync(folder).mode);
    paths.forEach((path, i) => {
      if (i !== 7) assert.deepEqual(seen[i], { mode: statSync(path).mode, sizeBytes: BigInt(i) });
    });
  });
});

test("many files are opened, each at its position; one that cannot be leaves nothing", () => {
  inFolder((folder) => {
    const paths = Array.from({ length: 40 }, (_, i) => join(folder, `${i}`));
    for (const path of paths) writeFileSync(path, `0123456789 of ${path}`);
    const before = readdirSync("/proc/self/fd").length;
    // No file has a position below 0.
    const opened = openMany([
      ...paths.map((path, i) => ({ path, flags: 0, position: BigInt(i % 10) })),
      { path: join(folder, "absent"), flags: 0, position: 3n },
      { path: paths[0] as string, flags: 0, position: -5n },
    ]);
    assert.deepEqual(opened.slice(40), [undefined, undefined]);
    assert.equal(readdirSync("/proc/self/fd").length, before + 40);
    opened.slice(0, 40).forEach((fd, i) => {
      assert.equal(fstatSync(fd as number).ino, statSync(paths[i] as string).ino);
      const rest = Buffer.alloc(100);
      const got = readSync(fd as number, rest, 0, 100, null);
      assert.equal(rest.toString("latin1", 0, got), readFileSync(paths[i] as string, "latin1").slice(i % 10));
      closeSync(fd as number);
    });
  });
});

test("the table of descriptors grows, and none is left behind", () => {
  const size = () => Number(/^FDSize:\s+(\d+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1]);
  const before = readdirSync("/proc/self/fd");
  const wanted = size() + 10;
  growDescriptors(wanted).join();
  assert.ok(size() > wanted);
  assert.deepEqual(readdirSync("/proc/self/fd").length, before.length);
});

test("plain names are those with one byte for each character", () => {
  assert.ok(isPlainName("/a b/c~"));
  for (const name of ["", "/\u00e4", "/\udc80", "/a\nb"]) assert.ok(!isPlainName(name));
});
