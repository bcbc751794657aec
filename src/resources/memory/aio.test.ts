import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { waitForDevices } from "./aio.js";

test("block devices are waited for until each has been idle, and no longer than the limit", async () => {
  const folder = mkdtempSync(join(tmpdir(), "floe-devices-"));
  const inflight = join(folder, "slow", "inflight");
  try {
    for (const device of ["slow", "idle"]) mkdirSync(join(folder, device));
    writeFileSync(join(folder, "idle", "inflight"), "       0        0\n");
    writeFileSync(inflight, "       2       10\n");
    // Never idle: the limit ends it.
    waitForDevices(folder);
    const helper = spawn("sh", ["-c", 'sleep 0.02; echo "0 0" > "$1.new"; mv "$1.new" "$1"', "sh", inflight]);
    const ended = new Promise((done) => helper.on("exit", done));
    for (let i = 0; i < 40 && readFileSync(inflight, "latin1") !== "0 0\n"; i++) waitForDevices(folder);
    assert.equal(readFileSync(inflight, "latin1"), "0 0\n");
    await ended;
    waitForDevices(folder);
    waitForDevices(join(folder, "none"));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
