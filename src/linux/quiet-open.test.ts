import assert from "node:assert/strict";
import { closeSync, mkdtempSync, readSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { IN_CLOEXEC, IN_NONBLOCK, inotifyAddWatch, inotifyInit } from "./events.js";
import { bytesToRead } from "./pipes.js";
import { openQuietly } from "./quiet-open.js";

const IN_ALL_EVENTS = 0xfff;
const isAllowed = process.getuid?.() === 0 ? false : "needs root";

describe("opening quietly", { skip: isAllowed }, () => {
  test("nobody is told that a file or directory was opened, read and closed", () => {
    const folder = mkdtempSync(join(tmpdir(), "floe-quiet-"));
    const group = inotifyInit(IN_CLOEXEC | IN_NONBLOCK);
    try {
      const path = join(folder, "file");
      writeFileSync(path, "content");
      for (const one of [folder, path]) inotifyAddWatch(group, one, IN_ALL_EVENTS);
      const before = statSync(path, { bigint: true }).atimeNs;
      const fd = openQuietly(path);
      assert.ok(fd !== undefined);
      const room = Buffer.alloc(16);
      assert.equal(room.toString("latin1", 0, readSync(fd, room)), "content");
      closeSync(fd);
      const directory = openQuietly(folder);
      assert.ok(directory !== undefined);
      closeSync(directory);
      assert.equal(bytesToRead(group), 0);
      assert.equal(statSync(path, { bigint: true }).atimeNs, before);
      readdirSync(folder);
      assert.ok(bytesToRead(group) > 0);
    } finally {
      closeSync(group);
      rmSync(folder, { recursive: true });
    }
  });

  test("what the kernel does not ask about, and what is not there, is not opened", () => {
    assert.equal(openQuietly("/dev/null"), undefined);
    assert.equal(openQuietly("/no/such/file"), undefined);
  });
});
