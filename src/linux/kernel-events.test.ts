import assert from "node:assert/strict";
import { closeSync, mkdtempSync, readSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { IN_CLOEXEC, IN_NONBLOCK, inotifyAddWatch, inotifyInit, setNextWatch } from "./events.js";
import { KernelEvents, inotifyBytes } from "./kernel-events.js";
import { bytesToRead } from "./pipes.js";

const kernel = process.getuid?.() === 0 ? KernelEvents.open() : undefined;
const skip = kernel === undefined ? "needs root, and a kernel with BTF" : false;

test("unread events are seen as they are read, and stay; so does the number of the next watch", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "floe-events-"));
  const fd = inotifyInit(IN_CLOEXEC | IN_NONBLOCK);
  try {
    setNextWatch(fd, 41);
    assert.equal(inotifyAddWatch(fd, folder, 0xfff), 41);
    writeFileSync(join(folder, "n".repeat(255)), "x");
    writeFileSync(join(folder, "short"), "x");
    renameSync(join(folder, "short"), join(folder, "sixteen bytes on"));
    // More than one look takes, by number and by length.
    for (let i = 0; i < 200; i++) writeFileSync(join(folder, `${i}${"m".repeat(i)}`), "x");
    const bytes = bytesToRead(fd);
    const seen = kernel?.copyQueue(fd, bytes)?.events(bytes);
    assert.equal(kernel?.nextWatch(fd), 42);
    assert.equal(kernel?.copyQueue(fd, bytes + 16)?.events(bytes + 16), undefined);
    assert.equal(bytesToRead(fd), bytes);
    const read = Buffer.alloc(bytes);
    assert.equal(readSync(fd, read, 0, bytes, null), bytes);
    assert.deepEqual(inotifyBytes(seen ?? []), read);
    assert.deepEqual(kernel?.copyQueue(fd, 0)?.events(0), []);
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
});
