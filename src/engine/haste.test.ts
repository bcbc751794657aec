import assert from "node:assert/strict";
import { test } from "node:test";
import { SCHED_OTHER, SCHED_RESET_ON_FORK, SCHED_RR, getpriority, schedGetscheduler } from "../linux/sched.js";
import { Haste } from "./haste.js";

test("Haste goes before ordinary work and leaves the thread as it was", () => {
  const before = { policy: schedGetscheduler(0), nice: getpriority(0) };
  const haste = new Haste();
  const during = schedGetscheduler(0);
  const isFirst = during === (SCHED_RR | SCHED_RESET_ON_FORK) || getpriority(0) === -20;
  haste.end();
  haste.end();
  assert.deepEqual({ policy: schedGetscheduler(0), nice: getpriority(0) }, before);
  if (process.getuid?.() === 0 && before.policy === SCHED_OTHER) assert.ok(isFirst, "root may raise its priority");
});
