/**
 * The log: levels, marks, and the file.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UsageError } from "../errors.js";
import { openLog } from "./log.js";

test("a log file is private and holds the lines up to its level", () => {
  const directory = mkdtempSync(join(tmpdir(), "floe-log-"));
  try {
    const file = join(directory, "dump.log");
    const log = openLog({ level: 2, file });
    log.error("one");
    log.warn("two");
    log.info("three");
    log.debug("four");
    log.close();
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const lines = readFileSync(file, "utf8").trimEnd().split("\n");
    assert.deepEqual(
      lines.map((line) => line.replace(/^\(\d\d\.\d{6}\) /, "")),
      ["Error (floe): one", "Warn  (floe): two"],
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a log file that cannot be made is a usage error", () => {
  assert.throws(
    () => openLog({ level: 2, file: "/nonexistent/dump.log" }),
    (error) => error instanceof UsageError && error.code === "LOG_FILE_UNUSABLE",
  );
});
