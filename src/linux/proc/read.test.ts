import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import test from "node:test";
import { KernelError } from "../../errors.js";
import { auxvValue, AT_PAGESZ } from "./auxv.js";
import { readFdNumbers, readNamespaceInode, readPids, readProcLink, readThreadIds } from "./list.js";
import * as read from "./read.js";

const self = process.pid;
/** A pid that cannot exist: pid_max is at most 2^22. */
const NOBODY = 2 ** 22 + 1;

test("the reader's own process is read by every function", () => {
  assert.equal(read.readStat(self).pid, self);
  assert.equal(read.readStat(self, self).ppid, process.ppid);
  assert.equal(read.readStatus(self).tgid, self);
  assert.equal(read.readStatus(self).umask, process.umask());
  assert.equal(read.readComm(self), read.readStatus(self).name);
  assert.equal(read.readStat(self).comm, read.readComm(self));
  assert.deepEqual(read.readCmdline(self).length > 0, true);
  assert.ok(read.readEnviron(self).some((text) => text.startsWith("PATH=")));
  assert.equal(auxvValue(read.readAuxv(self), AT_PAGESZ), 4096n);
  assert.equal(read.readLimits(self).length, 16);
  assert.ok(read.readMountinfo(self).length > 0);
  assert.deepEqual(read.readPosixTimers(self), []);
  assert.equal(read.readPersonality(self) >= 0, true);
  assert.equal(typeof read.readOomScoreAdj(self), "number");
  assert.equal(typeof read.readCoredumpFilter(self), "number");
  assert.ok(read.readUidMap(self).length > 0 && read.readGidMap(self).length > 0);
  assert.equal(read.readSyscall(self).kind, "syscall");
  assert.ok(Array.isArray(read.readChildren(self)));
  assert.ok(Array.isArray(read.readLocks()));
  assert.ok(Array.isArray(read.readCgroup(self)));
  read.readTimeOffsets(self);
  read.readLoginuid(self);
  assert.ok((read.readSysctl("kernel/pid_max") ?? 0n) > 0n);
  assert.equal(read.readSysctlList("kernel/sem")?.length, 4);
  assert.equal(read.readSysctl("kernel/no_such_thing"), undefined);
});

test("maps and smaps of the same process agree and are in order", () => {
  const maps = read.readMaps(self);
  const smaps = read.readSmaps(self);
  assert.ok(maps.length > 20);
  const byStart = new Map(smaps.map((vma) => [vma.start, vma]));
  const stack = maps.find((vma) => vma.name === "[stack]");
  assert.ok(stack !== undefined);
  assert.ok(byStart.get(stack.start)?.flags.has("gd"));
  for (let i = 1; i < smaps.length; i++) assert.ok((smaps[i - 1]?.end ?? 0n) <= (smaps[i]?.start ?? 0n));
});

test("fdinfo and links of a descriptor", () => {
  const fd = openSync("/proc/self/status", "r");
  try {
    assert.ok(readFdNumbers(self).includes(fd));
    const info = read.readFdInfo(self, fd);
    assert.equal(info.flags & 3, 0);
    assert.equal(readProcLink(self, `fd/${fd}`), `/proc/${self}/status`);
  } finally {
    closeSync(fd);
  }
  assert.throws(() => read.readFdInfo(self, 100_000), KernelError);
});

test("lists: threads, processes, namespaces", () => {
  assert.equal(readThreadIds(self)[0], self);
  assert.ok(readPids().includes(self));
  assert.ok((readNamespaceInode(self, "pid") ?? 0n) > 0n);
  assert.equal(readNamespaceInode(self, "nothing"), undefined);
});

test("a process that is gone is ESRCH, a file that the kernel lacks is ENOENT", () => {
  const gone = (error: unknown) => error instanceof KernelError && error.errno === 3;
  assert.throws(() => read.readStat(NOBODY), gone);
  assert.throws(() => read.readStat(self, NOBODY), gone);
  assert.throws(() => read.readLoginuid(NOBODY), gone);
  assert.throws(() => readThreadIds(NOBODY), gone);
  assert.throws(() => readProcLink(NOBODY, "exe"), gone);
  assert.throws(
    () => read.readProc(`/proc/${self}/nothing`),
    (error) => error instanceof KernelError && error.errno === 2,
  );
});

test("a file larger than the buffer is read whole", () => {
  const small = read.readProc("/proc/self/status").length;
  assert.ok(small > 500);
  assert.ok(read.readProc("/proc/kallsyms").length > 64 * 1024);
});
