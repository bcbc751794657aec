/**
 * namespaces(7): setns(2), unshare(2) and the ioctls on namespace files, ioctl_nsfs(2).
 *
 * Constants: uapi/linux/sched.h, uapi/linux/nsfs.h.
 */
import { closeSync, openSync } from "node:fs";
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const CLONE_NEWTIME = 0x80;
export const CLONE_NEWNS = 0x20000;
export const CLONE_NEWCGROUP = 0x0200_0000;
export const CLONE_NEWUTS = 0x0400_0000;
export const CLONE_NEWIPC = 0x0800_0000;
export const CLONE_NEWUSER = 0x1000_0000;
export const CLONE_NEWPID = 0x2000_0000;
export const CLONE_NEWNET = 0x4000_0000;

const NS_GET_USERNS = 0xb701;
const NS_GET_PARENT = 0xb702;
const NS_GET_NSTYPE = 0xb703;
const NS_GET_OWNER_UID = 0xb704;
const NS_GET_PID_FROM_PIDNS = 0x8004_b706;

/** int setns(int fd, int nstype) — `fd` is a namespace file, or a pidfd with several CLONE_NEW… (since 5.8). */
export function setns(fd: number, nstype: number): void {
  checked(syscallNumber(SYS.setns, fd, nstype), () => `setns(${fd}, 0x${nstype.toString(16)})`);
}

/** int unshare(int flags). */
export function unshare(flags: number): void {
  checked(syscallNumber(SYS.unshare, flags), () => `unshare(0x${flags.toString(16)})`);
}

/** ioctl(fd, NS_GET_USERNS) — a descriptor of the user namespace that owns a namespace; EPERM when out of reach. */
export function nsGetUserns(fd: number): number {
  return checked(syscallNumber(SYS.ioctl, fd, NS_GET_USERNS, 0), () => `ioctl(${fd}, NS_GET_USERNS)`);
}

/** ioctl(fd, NS_GET_PARENT) — the parent of a pid or user namespace, undefined when it is out of the caller's reach. */
export function nsGetParent(fd: number): number | undefined {
  const got = syscallNumber(SYS.ioctl, fd, NS_GET_PARENT, 0);
  return got === -ERRNO.EPERM ? undefined : checked(got, () => `ioctl(${fd}, NS_GET_PARENT)`);
}

/** ioctl(fd, NS_GET_NSTYPE) — CLONE_NEW… of a namespace file. */
export function nsGetType(fd: number): number {
  return checked(syscallNumber(SYS.ioctl, fd, NS_GET_NSTYPE, 0), () => `ioctl(${fd}, NS_GET_NSTYPE)`);
}

/** ioctl(fd, NS_GET_OWNER_UID) — who made a user namespace. */
export function nsGetOwnerUid(fd: number): number {
  const bytes = Buffer.alloc(4);
  checked(syscallNumber(SYS.ioctl, fd, NS_GET_OWNER_UID, bytes), () => `ioctl(${fd}, NS_GET_OWNER_UID)`);
  return bytes.readUInt32LE(0);
}

/**
 * ioctl(fd, NS_GET_PID_FROM_PIDNS, pid) — the number in the caller's pid namespace of the thread that has number `pid` in that
 * of `fd`; undefined when there is none, or the kernel (before 6.11) cannot say.
 */
export function nsGetPidFromPidns(fd: number, pid: number): number | undefined {
  const got = syscallNumber(SYS.ioctl, fd, NS_GET_PID_FROM_PIDNS, pid);
  return got > 0 ? got : undefined;
}

/**
 * Does something in the IPC namespace behind a file such as /proc/PID/ns/ipc. Only the calling thread goes there: the files of /proc that
 * speak of such a namespace ask which thread opens them.
 */
export function inIpcNamespace<T>(namespace: string | number, action: () => T): T {
  const there = typeof namespace === "number" ? namespace : openSync(namespace, "r");
  try {
    const own = openSync("/proc/thread-self/ns/ipc", "r");
    try {
      setns(there, CLONE_NEWIPC);
      try {
        return action();
      } finally {
        setns(own, CLONE_NEWIPC);
      }
    } finally {
      closeSync(own);
    }
  } finally {
    if (typeof namespace !== "number") closeSync(there);
  }
}
