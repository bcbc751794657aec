import assert from "node:assert/strict";
import test from "node:test";
import { KernelError } from "../errors.js";
import { parseQueue } from "./sysv-queues.js";
import { parseSemaphoreSet } from "./sysv-semaphores.js";
import { parseSegment, SHM_DEST } from "./sysv.js";

test("sysv: a line of /proc/sysvipc/shm", () => {
  const line =
    "-2147483647      32769  1606                  4096  4711     0      2  1000   100     0     1          0          0          0    4096       0";
  assert.deepEqual(parseSegment(line), {
    key: 0x80000001,
    id: 32769,
    mode: SHM_DEST | 0o606,
    sizeBytes: 4096n,
    attached: 2,
    uid: 1000,
    gid: 100,
    cuid: 0,
    cgid: 1,
  });
});

test("sysv: a line that is cut off is an error", () => {
  assert.throws(() => parseSegment("         1          0  1600"), KernelError);
});

test("sysv: lines of /proc/sysvipc/msg and sem", () => {
  const owners = { uid: 5, gid: 6, cuid: 7, cgid: 8 };
  const queue = "1181483264          1   640         117        40    12    13     5     6     7     8 1764184000          0 1764183999";
  assert.deepEqual(parseQueue(queue.split(/\s+/)), { key: 0x466c0100, id: 1, mode: 0o640, bytes: 117, messages: 40, ...owners });
  const set = "         -1          3  1604        300     5     6     7     8          0 1764183999";
  assert.deepEqual(parseSemaphoreSet(set.trim().split(/\s+/)), { key: 0xffffffff, id: 3, mode: 0o1604, semaphores: 300, ...owners });
  assert.throws(() => parseSemaphoreSet(["0", "1", "600"]), KernelError);
});
