import assert from "node:assert/strict";
import test from "node:test";
import { KernelError } from "../../errors.js";
import {
  bpfMapInfo,
  epollTargets,
  eventfdInfo,
  fanotifyInfo,
  inotifyWatches,
  pidfdInfo,
  signalfdMask,
  timerfdInfo,
  tunInterface,
} from "./fdinfo-kinds.js";
import { fdInfoField, fdInfoLocks, isCloseOnExec, parseFdInfo } from "./fdinfo.js";

const HEAD = "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t1057\n";
const info = (lines: string) => parseFdInfo(Buffer.from(HEAD + lines), "/proc/1/fdinfo/3");

test("fdinfo: the lines that every file has", () => {
  const plain = info("");
  assert.deepEqual([plain.pos, plain.flags, plain.mntId, plain.ino], [0n, 0o2000002, 16, 1057n]);
  assert.equal(isCloseOnExec(plain), true);
  assert.equal(fdInfoField(plain, "nothing"), undefined);
  assert.equal(parseFdInfo(Buffer.from("pos:\t-1\nflags:\t0\n"), "x").mntId, -1);
});

test("fdinfo that is cut off or empty is ESRCH", () => {
  for (const text of ["", "pos:\t0\n", "pos:\t0\nflags:\t02", "pos:\tx\nflags:\t0\n"]) {
    assert.throws(() => parseFdInfo(Buffer.from(text), "x"), KernelError);
  }
});

test("fdinfo: locks", () => {
  const [lock] = fdInfoLocks(info("lock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n"));
  assert.deepEqual([lock?.kind, lock?.pid, lock?.inode], ["FLOCK", 359, 11691n]);
});

test("fdinfo of an eventfd: hexadecimal count, id, semaphore", () => {
  const lines = "eventfd-count: fffffffffffffffe\neventfd-id: 19\neventfd-semaphore: 1\n";
  assert.deepEqual(eventfdInfo(info(lines)), { count: 0xffff_ffff_ffff_fffen, id: 19, semaphore: true });
  assert.deepEqual(eventfdInfo(info("eventfd-count:               5a\n")), { count: 0x5an, id: undefined, semaphore: false });
  assert.throws(() => eventfdInfo(info("")), KernelError);
});

test("fdinfo of an epoll: targets with padding and data of 64 bits", () => {
  assert.deepEqual(epollTargets(info("tfd:        5 events: 80000019 data: ffffffffffffffff  pos:-1 ino:61af sdev:7\n")), [
    { fd: 5, events: 0x80000019, data: 0xffff_ffff_ffff_ffffn, pos: -1n, inode: 0x61afn, device: 7 },
  ]);
});

test("fdinfo of a signalfd, a timerfd, a pidfd, a tun", () => {
  assert.equal(signalfdMask(info("sigmask:\t8000000000000001\n")), 0x8000000000000001n);
  const timer = "clockid: 0\nticks: 2\nsettime flags: 03\nit_value: (7, 49406829)\nit_interval: (1, 0)\n";
  assert.deepEqual(timerfdInfo(info(timer)), {
    clockId: 0,
    ticks: 2n,
    setTimeFlags: 3,
    value: { seconds: 7n, nanoseconds: 49406829 },
    interval: { seconds: 1n, nanoseconds: 0 },
  });
  assert.throws(() => timerfdInfo(info(timer.replace("(7, ", "(7 "))), KernelError);
  assert.deepEqual(pidfdInfo(info("Pid:\t12\nNSpid:\t12\t3\n")), { pid: 12, nsPid: [12, 3] });
  assert.deepEqual(pidfdInfo(info("Pid:\t-1\nNSpid:\t-1\n")), { pid: -1, nsPid: [-1] });
  assert.equal(tunInterface(info("iff:\ttap0\n")), "tap0");
});

test("fdinfo of an inotify: watches with file handles", () => {
  const line = "inotify wd:1f ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:7e9e0000640d1b6d\n";
  assert.deepEqual(inotifyWatches(info(line)), [
    {
      wd: 31,
      inode: 0x9e7en,
      device: 0x800013,
      mask: 0x800afce,
      ignoredMask: 0,
      handle: { type: 1, bytes: Buffer.from("7e9e0000640d1b6d", "hex") },
    },
  ]);
  assert.throws(() => inotifyWatches(info(line.replace("bytes:8", "bytes:9"))), KernelError);
});

test("fdinfo of a fanotify: inode, mount and file-system marks", () => {
  const lines = `fanotify flags:10 event-flags:8002
fanotify mnt_id:12 mflags:40 mask:38 ignored_mask:40000000
fanotify ino:4f969 sdev:800013 mflags:0 mask:3b ignored_mask:40000000 fhandle-bytes:8 fhandle-type:1 f_handle:69f90400c275b5b4
fanotify sdev:800013 mflags:0 mask:3b ignored_mask:0
`;
  const group = fanotifyInfo(info(lines));
  assert.deepEqual([group.flags, group.eventFlags], [0x10, 0x8002]);
  assert.deepEqual(
    group.marks.map((mark) => [mark.on, mark.inode, mark.device, mark.mountId, mark.flags]),
    [
      ["mount", undefined, undefined, 0x12, 0x40],
      ["inode", 0x4f969n, 0x800013, undefined, 0],
      ["filesystem", undefined, 0x800013, undefined, 0],
    ],
  );
  assert.equal(group.marks[1]?.handle?.bytes.length, 8);
});

test("fdinfo of a bpf map", () => {
  const lines =
    "map_type:\t2\nkey_size:\t4\nvalue_size:\t8\nmax_entries:\t16\nmap_flags:\t0x80\nmap_extra:\t0x0\nmemlock:\t4096\nmap_id:\t7\nfrozen:\t1\n";
  assert.deepEqual(bpfMapInfo(info(lines)), {
    type: 2,
    keySizeBytes: 4,
    valueSizeBytes: 8,
    maxEntries: 16,
    flags: 0x80,
    extra: 0n,
    memlockBytes: 4096n,
    id: 7,
    frozen: true,
  });
});
