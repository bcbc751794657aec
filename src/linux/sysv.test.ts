import assert from "node:assert/strict";
import test from "node:test";
import { KernelError } from "../errors.js";
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
