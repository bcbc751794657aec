/**
 * eventfd(2), epoll(7), inotify(7), fanotify(7): structs and calls.
 *
 * Constants: uapi/linux/eventpoll.h, uapi/linux/eventfd.h, uapi/linux/inotify.h, uapi/linux/fanotify.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";
import { cstring } from "./text.js";

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
export const IN_MODIFY = 0x2;
export const IN_ATTRIB = 0x4;
export const IN_CLOSE_WRITE = 0x8;
export const IN_CLOSE_NOWRITE = 0x10;
export const IN_OPEN = 0x20;
export const IN_MOVED_FROM = 0x40;
export const IN_MOVED_TO = 0x80;
export const IN_CREATE = 0x100;
export const IN_DELETE = 0x200;
export const IN_DELETE_SELF = 0x400;
export const IN_MOVE_SELF = 0x800;
export const IN_UNMOUNT = 0x2000;
export const IN_Q_OVERFLOW = 0x4000;
export const IN_IGNORED = 0x8000;
export const IN_DONT_FOLLOW = 0x0200_0000;
export const IN_ISDIR = 0x4000_0000;
const INOTIFY_IOC_SETNEXTWD = 0x4004_4900;

/** struct inotify_event without a name. */
export const INOTIFY_EVENT_BYTES = 16;

/** An event of inotify(7). */
export interface InotifyEvent {
  /** Number of the watch; -1 with IN_Q_OVERFLOW. */
  readonly wd: number;
  readonly mask: number;
  /** Equal in the two halves of a rename; else 0. */
  readonly cookie: number;
  /** Of what is in the watched directory; empty: of the watched file itself. */
  readonly name: Buffer;
}

/** The events that read(2) gives; undefined when they are not whole. */
export function inotifyEvents(bytes: Buffer): InotifyEvent[] | undefined {
  const events: InotifyEvent[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + INOTIFY_EVENT_BYTES > bytes.length) return undefined;
    const start = at + INOTIFY_EVENT_BYTES;
    const end = start + bytes.readUInt32LE(at + 12);
    if (end > bytes.length) return undefined;
    const padded = bytes.subarray(start, end);
    const length = padded.indexOf(0);
    events.push({
      wd: bytes.readInt32LE(at),
      mask: bytes.readUInt32LE(at + 4),
      cookie: bytes.readUInt32LE(at + 8),
      name: Buffer.from(length < 0 ? padded : padded.subarray(0, length)),
    });
    at = end;
  }
  return events;
}

/** The room an event takes in a queue: names are filled up to a multiple of the struct, with a NUL at least. */
export function inotifyEventBytes({ name }: Pick<InotifyEvent, "name">): number {
  if (name.length === 0) return INOTIFY_EVENT_BYTES;
  return INOTIFY_EVENT_BYTES + Math.ceil((name.length + 1) / INOTIFY_EVENT_BYTES) * INOTIFY_EVENT_BYTES;
}

/** ioctl(fd, INOTIFY_IOC_SETNEXTWD, wd) — the number of the next watch; false where the kernel has no CONFIG_CHECKPOINT_RESTORE. */
export function setNextWatch(fd: number, watch: number): boolean {
  return syscallNumber(SYS.ioctl, fd, INOTIFY_IOC_SETNEXTWD, watch) === 0;
}

/** uapi/linux/eventpoll.h: _IOW and _IOR(0x8a, 1 and 2, struct epoll_params). */
const EPIOCSPARAMS = 0x4008_8a01;
const EPIOCGPARAMS = 0x8008_8a02;
const EPOLL_PARAMS_BYTES = 8;

/** How an epoll polls devices of the network itself. */
export interface EpollParams {
  readonly usecs: number;
  readonly budget: number;
  readonly prefer: number;
}

/** ioctl(fd, EPIOCGPARAMS) — undefined where the kernel has none (before Linux 6.9). */
export function epollParams(fd: number): EpollParams | undefined {
  const bytes = Buffer.alloc(EPOLL_PARAMS_BYTES);
  if (syscallNumber(SYS.ioctl, fd, EPIOCGPARAMS, bytes) < 0) return undefined;
  return { usecs: bytes.readUInt32LE(0), budget: bytes.readUInt16LE(4), prefer: bytes.readUInt8(6) };
}

/** ioctl(fd, EPIOCSPARAMS). */
export function setEpollParams(fd: number, { usecs, budget, prefer }: EpollParams): void {
  const bytes = Buffer.alloc(EPOLL_PARAMS_BYTES);
  bytes.writeUInt32LE(usecs, 0);
  bytes.writeUInt16LE(budget & 0xffff, 4);
  bytes.writeUInt8(prefer & 0xff, 6);
  checked(syscallNumber(SYS.ioctl, fd, EPIOCSPARAMS, bytes), () => `ioctl(${fd}, EPIOCSPARAMS, ${usecs} µs, ${budget} packets)`);
}

/** int inotify_init1(int flags). */
export function inotifyInit(flags: number): number {
  return checked(syscallNumber(SYS.inotify_init1, flags), () => `inotify_init1(${flags})`);
}

/** int inotify_add_watch(int fd, const char *pathname, uint32_t mask) — the number of the watch. */
export function inotifyAddWatch(fd: number, path: string, mask: number): number {
  return checked(syscallNumber(SYS.inotify_add_watch, fd, cstring(path), mask >>> 0), () => `inotify_add_watch(${fd}, "${path}", ${mask})`);
}

/** int inotify_rm_watch(int fd, int wd) — queues an IN_IGNORED. */
export function inotifyRemoveWatch(fd: number, watch: number): void {
  checked(syscallNumber(SYS.inotify_rm_watch, fd, watch), () => `inotify_rm_watch(${fd}, ${watch})`);
}

/** FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM, and FAN_PRE_ACCESS. */
export const FAN_PERMISSIONS = 0x17_0000;
export const FAN_OPEN = 0x20;
/** Flag of a group: its queue has no limit. */
export const FAN_UNLIMITED_QUEUE = 0x10;
export const FAN_MARK_ADD = 0x1;
export const FAN_MARK_REMOVE = 0x2;
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
    syscallNumber(SYS.fanotify_mark, fd, flags, BigInt(mask >>> 0), AT_FDCWD, cstring(path)),
    () => `fanotify_mark(${fd}, ${flags}, ${mask}, "${path}")`,
  );
}
