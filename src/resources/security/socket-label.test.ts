import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { socketLabel, withSocketLabel } from "./socket-label.js";

test("a label is asked for while a socket is made, and no longer", () => {
  const folder = mkdtempSync(join(tmpdir(), "floe-label-"));
  const file = join(folder, "sockcreate");
  try {
    const seen = withSocketLabel("system_u:object_r:x_t:s0", () => readFileSync(file, "utf8"), file);
    assert.equal(seen, "system_u:object_r:x_t:s0");
    assert.equal(readFileSync(file, "utf8"), "\0");
    const failing = () => {
      throw new Error("no socket");
    };
    assert.throws(() => withSocketLabel("a_label", failing, file), /no socket/);
    assert.equal(readFileSync(file, "utf8"), "\0");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("without a label nothing is written, and a label that cannot be given is an error", () => {
  assert.equal(
    withSocketLabel(undefined, () => 5, "/nowhere/sockcreate"),
    5,
  );
  assert.throws(() => withSocketLabel("a_label", () => 5, "/nowhere/sockcreate"), /SELinux label/);
});

test("only sockets are asked", () => {
  assert.equal(socketLabel({ pid: process.pid, fd: 0, link: "/dev/null" }), undefined);
});
