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
