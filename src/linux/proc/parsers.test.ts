import assert from "node:assert/strict";
import test from "node:test";
import { KernelError } from "../../errors.js";
import { RLIM_INFINITY, RLIMIT } from "../limits.js";
import { auxvValue, parseAuxv } from "./auxv.js";
import { parseCgroup } from "./cgroup.js";
import { parseIdMap } from "./id-map.js";
import { parseLimits } from "./limits.js";
import { parseLocks } from "./locks.js";
import { parseMountinfo } from "./mountinfo.js";
import { parseStat } from "./stat.js";
import { parseStatus } from "./status.js";
import { parseComm, parseStrings } from "./strings.js";
import { parseSyscall } from "./syscall.js";
import { parseTimeOffsets } from "./time-offsets.js";
import { parseTimers } from "./timers.js";
import { parseDecimal, parseDecimals, parseHex } from "./values.js";

const b = (text: string) => Buffer.from(text);

const STAT_TAIL =
  " T 1 2 3 34816 5 4194560 85 0 9 0 0 1 0 0 20 -5 3 0 18446744073709551615 2662400 217 18446744073709551615 1 2 140722 0 0 0 0 4096 1 1 0 0 17 1 0 0 0 0 0 3 4 5 6 7 8 9 2304\n";

test("stat: a name with parentheses, spaces and newlines, and numbers of 64 bits", () => {
  const stat = parseStat(b(`4120 (a) R 1 (\nü)${STAT_TAIL}`), "x");
  assert.equal(stat.pid, 4120);
  assert.equal(stat.comm, "a) R 1 (\nü");
  assert.equal(stat.state, "T");
  assert.deepEqual([stat.ppid, stat.pgrp, stat.session, stat.ttyNr, stat.nice, stat.threads], [1, 2, 3, 34816, -5, 3]);
  assert.equal(stat.startTimeTicks, 18446744073709551615n);
  assert.deepEqual([stat.startData, stat.envEnd, stat.exitCode], [3n, 9n, 2304]);
});

test("stat that is cut off or empty is ESRCH", () => {
  const text = `4120 (a)${STAT_TAIL}`;
  for (let length = 0; length < text.length; length++) {
    assert.throws(
      () => parseStat(b(text.slice(0, length)), "/proc/4120/stat"),
      (error) => error instanceof KernelError && error.errno === 3,
    );
  }
});

const STATUS = `Name:\ta\\nb\\\\n
Umask:\t0027
State:\tS (sleeping)
Tgid:\t7
Pid:\t8
PPid:\t1
TracerPid:\t9
Uid:\t1\t2\t3\t4
Gid:\t5\t6\t7\t8
Groups:\t10 4294967294 
NStgid:\t7\t2
NSpid:\t8\t3
NSpgid:\t7\t2
NSsid:\t7\t1
Threads:\t2
SigPnd:\t0000000000000001
ShdPnd:\t8000000000000000
SigBlk:\tfffffffe7ffbfeff
SigIgn:\t0000000000001000
SigCgt:\t0000000000000002
CapInh:\t0000000000000001
CapPrm:\t000001ffffffffff
CapEff:\t0000000000000003
CapBnd:\t0000000000000004
CapAmb:\t0000000000000005
NoNewPrivs:\t1
Seccomp:\t2
`;

test("status: ids, sets, masks, and the escapes of the name", () => {
  const status = parseStatus(b(STATUS), "x");
  assert.equal(status.name, "a\nb\\n");
  assert.equal(status.umask, 0o27);
  assert.equal(status.state, "S");
  assert.deepEqual(status.uids, [1, 2, 3, 4]);
  assert.deepEqual(status.groups, [10, 4294967294]);
  assert.deepEqual(status.nsPid, [8, 3]);
  assert.equal(status.shdPnd, 1n << 63n);
  assert.equal(status.capPrm, 0x1ffffffffffn);
  assert.equal(status.capAmb, 5n);
  assert.equal(status.noNewPrivs, true);
  assert.equal(status.seccomp, 2);
});

test("status without lines that old kernels lack reads them as 0; cut off it is ESRCH", () => {
  const old = STATUS.replace(/(NoNewPrivs|CapAmb|NStgid|Umask):.*\n/g, "");
  assert.deepEqual([parseStatus(b(old), "x").noNewPrivs, parseStatus(b(old), "x").capAmb], [false, 0n]);
  assert.throws(() => parseStatus(b(STATUS.slice(0, 200)), "x"), KernelError);
  assert.throws(() => parseStatus(b(""), "x"), KernelError);
});

test("timers: every kind of notification, sorted by id", () => {
  const text = `ID: 3
signal: 60/00007fff00000010
notify: signal/tid.71
ClockID: -6
ID: 0
signal: 0/0000000000000000
notify: none/pid.70
ClockID: 1
`;
  assert.deepEqual(parseTimers(b(text), "x"), [
    { id: 0, signal: 0, sigval: 0n, notify: 1, notifyTid: 70, clockId: 1 },
    { id: 3, signal: 60, sigval: 0x7fff00000010n, notify: 4, notifyTid: 71, clockId: -6 },
  ]);
  assert.deepEqual(parseTimers(b(""), "x"), []);
  assert.throws(() => parseTimers(b(text.slice(0, -4)), "x"), KernelError);
  assert.throws(() => parseTimers(b(text.replace("none", "dance")), "x"), KernelError);
});

test("limits: numbers and unlimited, by RLIMIT number", () => {
  const names = `cpu time|file size|data size|stack size|core file size|resident set|processes|open files|locked memory|address space|file locks|pending signals|msgqueue size|nice priority|realtime priority|realtime timeout`;
  const rows = names.split("|").map((name, i) => `${`Max ${name}`.padEnd(26)}${`${i}`.padEnd(21)}unlimited            units     `);
  const text = `Limit                     Soft Limit           Hard Limit           Units     \n${rows.join("\n")}\n`;
  const limits = parseLimits(b(text), "x");
  assert.equal(limits.length, 16);
  assert.deepEqual(limits[RLIMIT.NOFILE], { soft: 7n, hard: RLIM_INFINITY });
  assert.throws(() => parseLimits(b(text.slice(0, 900)), "x"), KernelError);
});

test("mountinfo: tags, escapes, empty sources and subtypes", () => {
  const text = `36 35 98:0 /mnt\\0401 /mnt2\\134x rw,noatime shared:1 master:2 propagate_from:3 - fuse.sshfs u@h:/a\\040b rw,size=1\\0542
37 36 0:44 / / ro unbindable - tmpfs  rw
`;
  assert.deepEqual(parseMountinfo(b(text), "x"), [
    {
      id: 36,
      parentId: 35,
      devMajor: 98,
      devMinor: 0,
      root: "/mnt 1",
      mountPoint: "/mnt2\\x",
      options: ["rw", "noatime"],
      shared: 1,
      master: 2,
      propagateFrom: 3,
      unbindable: false,
      fsType: "fuse.sshfs",
      source: "u@h:/a b",
      superOptions: "rw,size=1,2",
    },
    {
      id: 37,
      parentId: 36,
      devMajor: 0,
      devMinor: 44,
      root: "/",
      mountPoint: "/",
      options: ["ro"],
      shared: undefined,
      master: undefined,
      propagateFrom: undefined,
      unbindable: true,
      fsType: "tmpfs",
      source: "",
      superOptions: "rw",
    },
  ]);
  assert.throws(() => parseMountinfo(b(text.slice(0, 60)), "x"), KernelError);
});

test("cgroup: v1, named, and v2 hierarchies, colons in paths", () => {
  assert.deepEqual(parseCgroup(b("4:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/x (deleted)\n"), "x"), [
    { hierarchy: 4, controllers: ["cpu", "cpuacct"], path: "/a:b" },
    { hierarchy: 1, controllers: ["name=systemd"], path: "/" },
    { hierarchy: 0, controllers: [], path: "/x (deleted)" },
  ]);
  assert.throws(() => parseCgroup(b("0::/x"), "x"), KernelError);
});

test("auxv: pairs of 64 bits, looked up by type", () => {
  const bytes = Buffer.alloc(32);
  bytes.writeBigUInt64LE(33n, 0);
  bytes.writeBigUInt64LE(0xffff_ffff_ffff_0000n, 8);
  const vector = parseAuxv(bytes, "x");
  assert.equal(auxvValue(vector, 33), 0xffff_ffff_ffff_0000n);
  assert.equal(auxvValue(vector, 7), undefined);
  assert.throws(() => parseAuxv(bytes.subarray(3), "x"), KernelError);
});

test("strings: with and without the closing NUL, empty ones kept", () => {
  assert.deepEqual(parseStrings(b("a\0\0b c\0")), ["a", "", "b c"]);
  assert.deepEqual(parseStrings(b("nginx: worker")), ["nginx: worker"]);
  assert.deepEqual(parseStrings(b("")), []);
});

test("comm: a newline inside the name stays", () => {
  assert.equal(parseComm(b("a\nb\n"), "x"), "a\nb");
  assert.throws(() => parseComm(b(""), "x"), KernelError);
});

test("id maps: runs, and none", () => {
  assert.deepEqual(parseIdMap(b("         0     100000 4294967295\n"), "x"), [{ inside: 0, outside: 100000, count: 4294967295 }]);
  assert.deepEqual(parseIdMap(b(""), "x"), []);
  assert.throws(() => parseIdMap(b("0 1\n"), "x"), KernelError);
});

test("time offsets: negative and positive", () => {
  assert.deepEqual(parseTimeOffsets(b("monotonic           -5         7\nboottime             9         0\n"), "x"), {
    monotonic: { seconds: -5n, nanoseconds: 7 },
    boottime: { seconds: 9n, nanoseconds: 0 },
  });
  assert.throws(() => parseTimeOffsets(b("monotonic  1 2\n"), "x"), KernelError);
});

test("locks: waiters, leases, open-file-description locks", () => {
  const text = `1: POSIX  ADVISORY  WRITE 2634 fd:01:123 0 EOF
1: -> POSIX  ADVISORY  READ 2635 fd:01:123 0 99
2: LEASE  ACTIVE    READ  12 00:2b:5 0 EOF
3: OFDLCK ADVISORY  READ  -1 00:2b:18446744073709551615 1 9223372036854775806
`;
  const locks = parseLocks(b(text), "x");
  assert.deepEqual(locks[1], {
    id: 1,
    blocked: true,
    kind: "POSIX",
    state: "ADVISORY",
    type: "READ",
    pid: 2635,
    devMajor: 0xfd,
    devMinor: 1,
    inode: 123n,
    start: 0n,
    end: 99n,
  });
  assert.deepEqual([locks[0]?.end, locks[2]?.kind, locks[2]?.state, locks[3]?.pid], [undefined, "LEASE", "ACTIVE", -1]);
  assert.throws(() => parseLocks(b("1: POSIX\n"), "x"), KernelError);
});

test("syscall: running, blocked, inside a call", () => {
  assert.deepEqual(parseSyscall(b("running\n"), "x"), { kind: "running" });
  assert.deepEqual(parseSyscall(b("-1 0x7ffc 0x40\n"), "x"), { kind: "blocked", stackPointer: 0x7ffcn, instructionPointer: 0x40n });
  assert.deepEqual(parseSyscall(b("61 0xffffffffffffffff 0x1 0x0 0x0 0x0 0x0 0x7ffc 0x40\n"), "x"), {
    kind: "syscall",
    nr: 61,
    args: [0xffff_ffff_ffff_ffffn, 1n, 0n, 0n, 0n, 0n],
    stackPointer: 0x7ffcn,
    instructionPointer: 0x40n,
  });
  assert.throws(() => parseSyscall(b("61 0x0"), "x"), KernelError);
});

test("single values: signs, blanks, emptiness", () => {
  assert.equal(parseDecimal(b("-1000\n"), "x"), -1000);
  assert.equal(parseDecimal(b("4294967295"), "x"), 4294967295);
  assert.equal(parseHex(b("00040000\n"), "x"), 0x40000);
  assert.deepEqual(parseDecimals(b("12 34 "), "x"), [12, 34]);
  assert.deepEqual(parseDecimals(b(""), "x"), []);
  assert.throws(() => parseDecimal(b(""), "x"), KernelError);
  assert.throws(() => parseDecimal(b("ten\n"), "x"), KernelError);
});
