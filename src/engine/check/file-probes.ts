/**
 * Probes of files: what fdinfo tells, ioctls of terminals, mounts.
 */
import { openSync } from "node:fs";
import { checked } from "../../linux/errno.js";
import { addressOf, syscallNumber } from "../../linux/ffi/native.unsafe.js";
import { F_OWNER_PID, LOCK_SH, flock, getOwner, getOwnerUids, getSignal, setOwner, setSignal } from "../../linux/fcntl.js";
import { AT_FDCWD, O_CREAT, O_RDWR, openat, openat2 } from "../../linux/files.js";
import { MAP_PRIVATE, MFD_CLOEXEC, PAGE_BYTES, PROT_READ, encodeIovecs, memfdCreate } from "../../linux/memory.js";
import { fromStatDevice } from "../../linux/device-numbers.js";
import { CLONE_NEWNS } from "../../linux/namespaces.js";
import { pipe2 } from "../../linux/pipes.js";
import { readMaps, readMountinfo, readSysctl } from "../../linux/proc/read.js";
import { SIGUSR1, signalBit, signalfd4 } from "../../linux/signals.js";
import { SYS } from "../../linux/syscalls.js";
import { tcgets, tiocgexcl, tiocgpkt, tiocgptlck, tiocgptn, tiocgwinsz, tiocsptlck } from "../../linux/terminals.js";
import { CLOCK_MONOTONIC, TFD_CLOEXEC, timerfdCreate, timerfdSetTicks } from "../../linux/timers.js";
import type { Program, Result } from "../../target/program.js";
import { type Probe, calls, expect, expectFdinfo, fileText, withFds, withSandbox } from "./probe.js";

const CLOEXEC = 0o2000000;

const memfd = () => memfdCreate("floe-check", MFD_CLOEXEC);
const eventfd = () => checked(syscallNumber(SYS.eventfd2, 1, CLOEXEC), () => "eventfd2(1)");
const epoll = () => checked(syscallNumber(SYS.epoll_create1, CLOEXEC), () => "epoll_create1()");
const inotify = () => checked(syscallNumber(SYS.inotify_init1, CLOEXEC), () => "inotify_init1()");

const EPOLL_CTL_ADD = 1;
/** struct epoll_event is packed on x86-64. */
const EPOLL_EVENT_BYTES = 12;
const IN_ATTRIB = 4;

function fdinfoOfEvents(): void {
  withFds(
    () => [eventfd(), epoll(), signalfd4(-1, signalBit(SIGUSR1), CLOEXEC), inotify()],
    (event = -1, poll = -1, signal = -1, watch = -1) => {
      const slot = Buffer.alloc(EPOLL_EVENT_BYTES);
      checked(syscallNumber(SYS.epoll_ctl, poll, EPOLL_CTL_ADD, event, slot), () => "epoll_ctl(EPOLL_CTL_ADD)");
      checked(syscallNumber(SYS.inotify_add_watch, watch, Buffer.from("/\0"), IN_ATTRIB), () => 'inotify_add_watch("/")');
      expectFdinfo(event, "eventfd-count:");
      expectFdinfo(poll, "tfd:");
      expectFdinfo(signal, "sigmask:");
      expectFdinfo(watch, "inotify wd:");
      expectFdinfo(watch, "fhandle-bytes:");
    },
  );
}

function ownerOfFile(): void {
  withFds(
    () => Object.values(pipe2(CLOEXEC)),
    (fd = -1) => {
      setOwner(fd, { type: F_OWNER_PID, pid: process.pid });
      setSignal(fd, SIGUSR1);
      expect(getOwner(fd).pid === process.pid && getSignal(fd) === SIGUSR1, "the owner that was set is not there");
      expect(getOwnerUids(fd).uid === process.getuid?.(), "F_GETOWNER_UIDS tells another user");
    },
  );
}

/** Pages that do not begin at a page's start must go into a pipe as well. */
function unalignedVmsplice(): void {
  withFds(
    () => Object.values(pipe2(CLOEXEC)),
    (_read, write = -1) => {
      const memory = Buffer.alloc(3 * PAGE_BYTES);
      const start = addressOf(memory) | 1n;
      const iovec = encodeIovecs([{ address: start, sizeBytes: BigInt(PAGE_BYTES) }]);
      const sent = checked(syscallNumber(SYS.vmsplice, write, iovec, 1, 0), () => "vmsplice()");
      expect(sent === PAGE_BYTES && memory.length > 0, `vmsplice took ${sent} bytes of ${PAGE_BYTES}`);
    },
  );
}

function terminalCalls(): void {
  withFds(
    () => [openat(AT_FDCWD, "/dev/ptmx", { flags: O_RDWR | CLOEXEC | 0o400 })],
    (fd = -1) => {
      tiocsptlck(fd, true);
      expect(tiocgptlck(fd), "TIOCGPTLCK does not tell the lock that was set");
      expect(tcgets(fd) !== undefined, "TCGETS fails on a terminal");
      tiocgptn(fd);
      tiocgpkt(fd);
      tiocgexcl(fd);
      tiocgwinsz(fd);
    },
  );
}

function systemVIds(): void {
  for (const kind of ["msg", "sem", "shm"]) {
    expect(readSysctl(`kernel/${kind}_next_id`) !== undefined, `there is no kernel.${kind}_next_id (CONFIG_CHECKPOINT_RESTORE)`);
  }
}

/** Mount flags of uapi/linux/mount.h. */
const MS_BIND = 0x1000n;
const MS_REC_PRIVATE = 0x4000n | 0x40000n;
const MS_SHARED = 0x100000n;
const MOVE_MOUNT_SET_GROUP = 0x100;

/** A private mount namespace with an empty file system at /proc, which is there on every machine that we run on. */
function privateMounts(p: Program): void {
  p.call(SYS.unshare, CLONE_NEWNS).must();
  p.call(SYS.mount, 0, p.cstring("/"), 0, MS_REC_PRIVATE, 0).must();
  mount(p, "tmpfs", { at: "/proc" });
}

function mount(p: Program, type: string, options: { at: string; data?: string }): Result {
  const data = options.data === undefined ? 0 : p.cstring(options.data);
  return p.call(SYS.mount, p.cstring("floe-check"), p.cstring(options.at), p.cstring(type), 0, data).must();
}

function makeDirectories(p: Program, paths: readonly string[]): void {
  for (const path of paths) p.call(SYS.mkdir, p.cstring(path), 0o700).must();
}

function autofs(): void {
  withSandbox((thread) => {
    const ends = calls(thread, (p) => {
      privateMounts(p);
      makeDirectories(p, ["/proc/a"]);
      const out = p.buffer(8);
      p.call(SYS.pipe2, out, 0).must();
      p.call(SYS.setpgid, 0, 0).must();
      return out;
    });
    const fd = ends.bytes().readInt32LE(4);
    const data = `fd=${fd},pgrp=${thread.task.pid},minproto=5,maxproto=5,direct`;
    calls(thread, (p) => mount(p, "autofs", { at: "/proc/a", data }));
    const text = fileText(`/proc/${thread.task.pid}/mountinfo`);
    expect(/ - autofs .*pipe_ino=/.test(text), "mountinfo does not tell the pipe of an autofs");
  });
}

/** A mount joins the sharing group of another. */
function setMountGroup(): void {
  withSandbox((thread) => {
    calls(thread, (p) => {
      privateMounts(p);
      makeDirectories(p, ["/proc/a", "/proc/b"]);
      mount(p, "tmpfs", { at: "/proc/a" });
      p.call(SYS.mount, p.cstring("/proc/a"), p.cstring("/proc/b"), 0, MS_BIND, 0).must();
      p.call(SYS.mount, 0, p.cstring("/proc/a"), 0, MS_SHARED, 0).must();
      p.call(SYS.move_mount, AT_FDCWD, p.cstring("/proc/a"), AT_FDCWD, p.cstring("/proc/b"), MOVE_MOUNT_SET_GROUP).must();
    });
    const groups = fileText(`/proc/${thread.task.pid}/mountinfo`).match(/ \/proc\/[ab] \S+ shared:\d+/g) ?? [];
    const numbers = new Set(groups.map((line) => line.replace(/.*shared:/, "")));
    expect(groups.length === 2 && numbers.size === 1, "the mounts are not in one group");
  });
}

const ST_DEV_OFFSET = 0;
const ST_INO_OFFSET = 8;
const STAT_BYTES = 144;

/** A mapped file of an overlay must be shown under the device and inode that stat(2) tells. */
function overlayMappings(): void {
  withSandbox((thread) => {
    const { stat, address } = calls(thread, (p) => {
      privateMounts(p);
      makeDirectories(p, ["/proc/l", "/proc/u", "/proc/w", "/proc/m"]);
      const lower = p.call(SYS.open, p.cstring("/proc/l/f"), O_RDWR | O_CREAT, 0o600).must();
      p.call(SYS.ftruncate, lower, PAGE_BYTES).must();
      mount(p, "overlay", { at: "/proc/m", data: "lowerdir=/proc/l,upperdir=/proc/u,workdir=/proc/w" });
      const fd = p.call(SYS.open, p.cstring("/proc/m/f"), 0, 0).must();
      const out = p.buffer(STAT_BYTES);
      p.call(SYS.fstat, fd, out).must();
      return { stat: out, address: p.call(SYS.mmap, 0, PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0).must() };
    });
    const vma = readMaps(thread.task.pid).find(({ start }) => start === address.value);
    const device = fromStatDevice(stat.bytes().readBigUInt64LE(ST_DEV_OFFSET));
    const inode = stat.bytes().readBigUInt64LE(ST_INO_OFFSET);
    const isSame = vma?.inode === inode && vma.devMajor === device.major && vma.devMinor === device.minor;
    expect(isSame, "a mapping of an overlay is shown under another device or inode");
  });
}

export const requiredFiles: readonly Probe[] = [
  { name: "fdinfo of eventfd, epoll, signalfd and inotify", attempt: fdinfoOfEvents },
  { name: "owner of a file", attempt: ownerOfFile },
  { name: "vmsplice of unaligned memory", attempt: unalignedVmsplice },
  { name: "ioctls of terminals", attempt: terminalCalls },
  { name: "ids of System V objects", attempt: systemVIds },
  {
    name: "mountinfo",
    attempt: () => expect(readMountinfo(process.pid).length > 0, "/proc/self/mountinfo is empty"),
  },
];

export const fileFeatures: readonly Probe[] = [
  {
    name: "mnt_id",
    attempt: () =>
      withFds(
        () => [openSync("/", "r")],
        (fd = -1) => expectFdinfo(fd, "mnt_id:"),
      ),
  },
  {
    name: "timerfd",
    attempt: () =>
      withFds(
        () => [timerfdCreate(CLOCK_MONOTONIC, TFD_CLOEXEC)],
        (fd = -1) => {
          expectFdinfo(fd, "clockid:");
          timerfdSetTicks(fd, 1n);
          expectFdinfo(fd, "ticks: 1");
        },
      ),
  },
  {
    name: "fdinfo_lock",
    attempt: () =>
      withFds(
        () => [memfd()],
        (fd = -1) => {
          expect(flock(fd, LOCK_SH), "flock() fails on a file of our own");
          expectFdinfo(fd, "lock:");
        },
      ),
  },
  { name: "autofs", attempt: autofs },
  { name: "move_mount_set_group", attempt: setMountGroup },
  {
    name: "openat2",
    attempt: () =>
      withFds(
        () => [openat2(AT_FDCWD, "/", { flags: 0, resolve: 0 })],
        () => {},
      ),
  },
  { name: "overlayfs_maps", attempt: overlayMappings },
];
