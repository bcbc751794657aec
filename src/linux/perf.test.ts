import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync } from "node:fs";
import { test } from "node:test";
import { countEvents, countOf, tracepointIds } from "./perf.js";

const FORK = { name: "task/task_newtask", filter: "!(clone_flags & 256)" };

test("a tracepoint counts what a thread does", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  const [id] = tracepointIds([FORK]);
  assert.ok(id !== undefined && id > 0);
  const fd = countEvents(process.pid, { id, filter: FORK.filter });
  const none = countEvents(process.pid, { id, filter: "pid == 0" });
  try {
    assert.equal(countOf(fd), 0n);
    // Whether Node forks or makes a thread with memory of its own: a process it is.
    execFileSync("/bin/sh", ["-c", "/bin/true & wait"]);
    assert.ok(countOf(fd) >= 1n);
    assert.equal(countOf(none), 0n);
  } finally {
    closeSync(fd);
    closeSync(none);
  }
});

test("a tracepoint that the kernel does not have", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  assert.throws(() => tracepointIds([{ name: "task/task_nosuch", filter: "" }]));
});
