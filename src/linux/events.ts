/**
 * eventfd(2), epoll(7), inotify(7), fanotify(7): structs and calls.
 *
 * Constants: uapi/linux/eventpoll.h, uapi/linux/eventfd.h, uapi/linux/inotify.h, uapi/linux/fanotify.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const EFD_SEMAPHORE = 1;
export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;
/** The highest counter that write(2) can make. */
export const EVENTFD_MAX = 0xffff_ffff_ffff_fffen;

export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_MOD = 3;
/** struct epoll_event, which is packed on x86-64. */
export const EPOLL_EVENT_BYTES = 12;

/** int eventfd2(unsigned int count, int flags). */
export function eventfd2(count: number, flags: number): number {
  return checked(syscallNumber(SYS.eventfd2, count, flags), () => `eventfd2(${count}, ${flags})`);
}

/** int epoll_create1(int flags). */
export function epollCreate(flags: number): number {
  return checked(syscallNumber(SYS.epoll_create1, flags), () => `epoll_create1(${flags})`);
}

/** struct epoll_event. */
export function encodeEpollEvent(events: number, data: bigint): Buffer {
  const bytes = Buffer.alloc(EPOLL_EVENT_BYTES);
  bytes.writeUInt32LE(events >>> 0, 0);
  bytes.writeBigUInt64LE(data, 4);
  return bytes;
}

/** int epoll_wait(int epfd, struct epoll_event *events, int maxevents, 0) — how many of up to `limit` are reported now. */
export function epollWaitNow(fd: number, limit: number): number {
  const bytes = Buffer.alloc(EPOLL_EVENT_BYTES * limit);
  return checked(syscallNumber(SYS.epoll_wait, fd, bytes, limit, 0), () => `epoll_wait(${fd}, ${limit})`);
}

export const IN_CLOEXEC = 0o2000000;
export const IN_NONBLOCK = 0o4000;
export const IN_ACCESS = 0x1;
export const IN_ATTRIB = 0x4;
export const IN_DONT_FOLLOW = 0x0200_0000;
/** struct inotify_event without a name. */
export const INOTIFY_EVENT_BYTES = 16;

/** int inotify_init1(int flags). */
export function inotifyInit(flags: number): number {
  return checked(syscallNumber(SYS.inotify_init1, flags), () => `inotify_init1(${flags})`);
}

/** int inotify_add_watch(int fd, const char *pathname, uint32_t mask) — the number of the watch. */
export function inotifyAddWatch(fd: number, path: string, mask: number): number {
  return checked(
    syscallNumber(SYS.inotify_add_watch, fd, Buffer.from(`${path}\0`), mask >>> 0),
    () => `inotify_add_watch(${fd}, "${path}", ${mask})`,
  );
}

/** int inotify_rm_watch(int fd, int wd) — queues an IN_IGNORED. */
export function inotifyRemoveWatch(fd: number, watch: number): void {
  checked(syscallNumber(SYS.inotify_rm_watch, fd, watch), () => `inotify_rm_watch(${fd}, ${watch})`);
}

/** FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM, and FAN_PRE_ACCESS. */
export const FAN_PERMISSIONS = 0x17_0000;
export const FAN_MARK_ADD = 0x1;
export const FAN_MARK_DONT_FOLLOW = 0x4;
export const FAN_MARK_MOUNT = 0x10;
export const FAN_MARK_IGNORED_MASK = 0x20;
export const FAN_MARK_FILESYSTEM = 0x100;
export const FAN_MARK_IGNORE = 0x400;
const AT_FDCWD = -100;

/** int fanotify_init(unsigned int flags, unsigned int event_f_flags). */
export function fanotifyInit(flags: number, eventFlags: number): number {
  return checked(syscallNumber(SYS.fanotify_init, flags, eventFlags), () => `fanotify_init(${flags}, ${eventFlags})`);
}

/** int fanotify_mark(int fanotify_fd, unsigned int flags, uint64_t mask, AT_FDCWD, const char *pathname). */
export function fanotifyMark(fd: number, path: string, { flags, mask }: { flags: number; mask: number }): void {
  checked(
    syscallNumber(SYS.fanotify_mark, fd, flags, BigInt(mask >>> 0), AT_FDCWD, Buffer.from(`${path}\0`)),
    () => `fanotify_mark(${fd}, ${flags}, ${mask}, "${path}")`,
  );
}
