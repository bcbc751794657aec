/**
 * Opening, naming and copying files: openat2(2), open_by_handle_at(2), copy_file_range(2), fallocate(2), …
 *
 * What node:fs does as well (stat, rename, mkdir, …) is left to node:fs. Constants: uapi/asm-generic/fcntl.h,
 * uapi/linux/fcntl.h, uapi/linux/openat2.h, uapi/linux/falloc.h, uapi/linux/fs.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";
import { cstring, textOf } from "./text.js";

export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_ACCMODE = 3;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_DSYNC = 0o10000;
export const FASYNC = 0o20000;
export const O_DIRECT = 0o40000;
export const O_LARGEFILE = 0o100000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_NOATIME = 0o1000000;
export const O_CLOEXEC = 0o2000000;
export const O_SYNC = 0o4010000;
export const O_PATH = 0o10000000;
export const O_TMPFILE = 0o20200000;

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;

export const RESOLVE_NO_XDEV = 0x01;
export const RESOLVE_NO_MAGICLINKS = 0x02;
export const RESOLVE_NO_SYMLINKS = 0x04;
export const RESOLVE_BENEATH = 0x08;
export const RESOLVE_IN_ROOT = 0x10;

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;

/** uapi/linux/limits.h */
const PATH_MAX = 4096;

export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** int openat(int dirfd, const char *pathname, int flags, mode_t mode). */
export function openat(dirfd: number, path: string, options: { flags: number; mode?: number }): number {
  return checked(
    syscallNumber(SYS.openat, dirfd, cstring(path), options.flags, options.mode ?? 0),
    () => `openat(${dirfd}, "${path}", 0${options.flags.toString(8)})`,
  );
}

/** long openat2(int dirfd, const char *pathname, struct open_how *how, size_t size) — with rules for the walk; since 5.6. */
export function openat2(dirfd: number, path: string, how: { flags: number; mode?: number; resolve: number }): number {
  const bytes = Buffer.alloc(24); // struct open_how { u64 flags, mode, resolve; }
  [how.flags, how.mode ?? 0, how.resolve].forEach((value, i) => bytes.writeBigUInt64LE(BigInt(value), i * 8));
  return checked(
    syscallNumber(SYS.openat2, dirfd, cstring(path), bytes, bytes.length),
    () => `openat2(${dirfd}, "${path}", 0${how.flags.toString(8)}, resolve ${how.resolve})`,
  );
}

/** int close(int fd) — never fails in a way that leaves the descriptor open. */
export function close(fd: number): void {
  syscallNumber(SYS.close, fd);
}

/** int dup3(int oldfd, int newfd, int flags). */
export function dup3(fd: number, newFd: number, flags: number): number {
  return checked(syscallNumber(SYS.dup3, fd, newFd, flags), () => `dup3(${fd}, ${newFd}, ${flags})`);
}

/** off_t lseek(int fd, off_t offset, int whence) — the new position; undefined where there is none (ESPIPE, ENXIO). */
export function lseek(fd: number, offset: bigint, whence: number): number | undefined {
  const ENXIO = -6;
  const ESPIPE = -29;
  const got = syscallNumber(SYS.lseek, fd, offset, whence);
  return got === ESPIPE || got === ENXIO ? undefined : checked(got, () => `lseek(${fd}, ${offset}, ${whence})`);
}

/** A range of a file. */
export interface FileRange {
  readonly offset: bigint;
  readonly sizeBytes: bigint;
}

/** int fallocate(int fd, int mode, off_t offset, off_t len). */
export function fallocate(fd: number, mode: number, range: FileRange): void {
  checked(
    syscallNumber(SYS.fallocate, fd, mode, range.offset, range.sizeBytes),
    () => `fallocate(${fd}, ${mode}, ${range.offset}, ${range.sizeBytes})`,
  );
}

const POSIX_FADV_DONTNEED = 4;
const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
const SYNC_FILE_RANGE_WRITE = 2;
const SYNC_FILE_RANGE_WAIT_AFTER = 4;

/** int sync_file_range(int fd, off_t offset, off_t nbytes, SYNC_FILE_RANGE_WRITE) — begins to write a range to the disk. */
export function beginWriting(fd: number, range: FileRange): void {
  syscallNumber(SYS.sync_file_range, fd, range.offset, range.sizeBytes, SYNC_FILE_RANGE_WRITE);
}

/** Waits until a range is on the disk, and takes it out of the page cache (posix_fadvise(2), POSIX_FADV_DONTNEED). */
export function writeAndForget(fd: number, range: FileRange): void {
  const all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  syscallNumber(SYS.sync_file_range, fd, range.offset, range.sizeBytes, all);
  syscallNumber(SYS.fadvise64, fd, range.offset, range.sizeBytes, POSIX_FADV_DONTNEED);
}

/** fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, …) — gives the blocks of a range back; it reads as zeros. */
export function punchHole(fd: number, range: FileRange): void {
  fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range);
}

/** Where a copy starts; undefined: at the descriptor's own position, which then moves. */
export interface CopyPlace {
  readonly fd: number;
  readonly offset?: bigint;
}

function offsetPointer(offset: bigint | undefined): Buffer | number {
  if (offset === undefined) return 0;
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(offset, 0);
  return bytes;
}

/** ssize_t copy_file_range(…) — copies inside the kernel; the bytes copied, 0 at the end. EXDEV: use {@link sendfile}. */
export function copyFileRange(from: CopyPlace, to: CopyPlace, sizeBytes: number): number {
  return checked(
    syscallNumber(SYS.copy_file_range, from.fd, offsetPointer(from.offset), to.fd, offsetPointer(to.offset), sizeBytes, 0),
    () => `copy_file_range(${from.fd}, ${to.fd}, ${sizeBytes})`,
  );
}

/** ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count) — the bytes copied, 0 at the end. */
export function sendfile(toFd: number, from: CopyPlace, sizeBytes: number): number {
  return checked(
    syscallNumber(SYS.sendfile, toFd, from.fd, offsetPointer(from.offset), sizeBytes),
    () => `sendfile(${toFd}, ${from.fd}, ${sizeBytes})`,
  );
}

/** int linkat(…) — gives a file without name a name; with AT_EMPTY_PATH by descriptor: CAP_DAC_READ_SEARCH. */
export function linkat(from: { dirfd: number; path: string }, to: { dirfd: number; path: string }, flags: number): void {
  checked(
    syscallNumber(SYS.linkat, from.dirfd, cstring(from.path), to.dirfd, cstring(to.path), flags),
    () => `linkat(${from.dirfd}, "${from.path}", ${to.dirfd}, "${to.path}", ${flags})`,
  );
}

/** ssize_t readlinkat(fd, "", …) — target of the symbolic link that an O_PATH descriptor is of. */
export function readlinkOf(fd: number): string {
  const target = Buffer.alloc(PATH_MAX);
  const got = checked(syscallNumber(SYS.readlinkat, fd, cstring(""), target, target.length), () => `readlinkat(${fd}, "")`);
  return textOf(target.subarray(0, got));
}

/** Times of a file in nanoseconds since 1970. */
export interface FileTimes {
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
}

const NS_PER_S = 1_000_000_000n;

/** int utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) — of a symbolic link: its own. */
export function setTimes(path: string, times: FileTimes): void {
  checked(syscallNumber(SYS.utimensat, AT_FDCWD, cstring(path), timespecs(times), AT_SYMLINK_NOFOLLOW), () => `utimensat("${path}")`);
}

function timespecs({ atimeNs, mtimeNs }: FileTimes): Buffer {
  const times = Buffer.alloc(32); // struct timespec[2]
  [atimeNs / NS_PER_S, atimeNs % NS_PER_S, mtimeNs / NS_PER_S, mtimeNs % NS_PER_S].forEach((value, i) =>
    times.writeBigInt64LE(value, i * 8),
  );
  return times;
}

/** int futimens(int fd, const struct timespec times[2]) — by utimensat(2), which takes no path for it. */
export function setTimesOf(fd: number, times: FileTimes): void {
  checked(syscallNumber(SYS.utimensat, fd, 0, timespecs(times), 0), () => `utimensat(${fd})`);
}

/** int mknodat(int dirfd, const char *pathname, mode_t mode, dev_t dev) — `device` as in st_rdev. */
export function mknodat(dirfd: number, path: string, options: { mode: number; device: bigint }): void {
  checked(
    syscallNumber(SYS.mknodat, dirfd, cstring(path), options.mode, options.device),
    () => `mknodat(${dirfd}, "${path}", 0${options.mode.toString(8)}, ${options.device})`,
  );
}

/** struct file_handle with the mount it was made on. */
export interface NamedHandle {
  readonly type: number;
  readonly bytes: Buffer;
  readonly mountId: number;
}

/** uapi/linux/fcntl.h and linux/exportfs.h. */
const MAX_HANDLE_BYTES = 128;
const HANDLE_HEAD_BYTES = 8;

/** int name_to_handle_at(int dirfd, const char *pathname, …) — EOPNOTSUPP where the file system gives none. */
export function nameToHandleAt(dirfd: number, path: string, flags = 0): NamedHandle {
  const handle = Buffer.alloc(HANDLE_HEAD_BYTES + MAX_HANDLE_BYTES);
  const mountId = Buffer.alloc(4);
  handle.writeUInt32LE(MAX_HANDLE_BYTES, 0);
  checked(
    syscallNumber(SYS.name_to_handle_at, dirfd, cstring(path), handle, mountId, flags),
    () => `name_to_handle_at(${dirfd}, "${path}", ${flags})`,
  );
  const sizeBytes = handle.readUInt32LE(0);
  return {
    type: handle.readInt32LE(4),
    bytes: handle.subarray(HANDLE_HEAD_BYTES, HANDLE_HEAD_BYTES + sizeBytes),
    mountId: mountId.readInt32LE(0),
  };
}

/**
 * int open_by_handle_at(int mount_fd, struct file_handle *handle, int flags) — `mountFd` is any file on that mount.
 *
 * Needs CAP_DAC_READ_SEARCH; ESTALE when the file is gone.
 */
export function openByHandleAt(mountFd: number, handle: { type: number; bytes: Uint8Array }, flags: number): number {
  const bytes = Buffer.alloc(HANDLE_HEAD_BYTES + handle.bytes.length);
  bytes.writeUInt32LE(handle.bytes.length, 0);
  bytes.writeInt32LE(handle.type, 4);
  bytes.set(handle.bytes, HANDLE_HEAD_BYTES);
  return checked(
    syscallNumber(SYS.open_by_handle_at, mountFd, bytes, flags),
    () => `open_by_handle_at(${mountFd}, type ${handle.type}, 0${flags.toString(8)})`,
  );
}

/** statfs(2): what file system a descriptor is on. */
export interface FileSystemInfo {
  /** Magic number, uapi/linux/magic.h. */
  readonly type: bigint;
  readonly blockSizeBytes: bigint;
}

/** int fstatfs(int fd, struct statfs *buf). */
export function fstatfs(fd: number): FileSystemInfo {
  const bytes = Buffer.alloc(120);
  checked(syscallNumber(SYS.fstatfs, fd, bytes), () => `fstatfs(${fd})`);
  return { type: bytes.readBigUInt64LE(0), blockSizeBytes: bytes.readBigUInt64LE(8) };
}

/** TMPFS_MAGIC, uapi/linux/magic.h. */
export const TMPFS_MAGIC = 0x0102_1994n;

/** ssize_t getxattr(const char *path, …) — undefined when there is no such attribute, or none at all on this file system. */
export function getxattr(path: string, name: string): Buffer | undefined {
  const ENODATA = -61;
  const EOPNOTSUPP = -95;
  const value = Buffer.alloc(65536); // XATTR_SIZE_MAX, uapi/linux/limits.h
  const got = syscallNumber(SYS.getxattr, cstring(path), cstring(name), value, value.length);
  if (got === ENODATA || got === EOPNOTSUPP) return undefined;
  return value.subarray(
    0,
    checked(got, () => `getxattr("${path}", "${name}")`),
  );
}

/** int setxattr(const char *path, const char *name, const void *value, size_t size, int flags). */
export function setxattr(path: string, name: string, value: Uint8Array): void {
  checked(syscallNumber(SYS.setxattr, cstring(path), cstring(name), value, value.length, 0), () => `setxattr("${path}", "${name}")`);
}

/**
 * chroot(2) — runs `action` with another root directory. Nothing in it may open files by path but those that it is about.
 *
 * The working directory is put back as well; for the time of the action it is what it was.
 */
export function withRoot<T>(root: string, action: () => T): T {
  const before = openat(AT_FDCWD, ".", HERE);
  const outside = openat(AT_FDCWD, "/", { flags: O_PATH | O_DIRECTORY | O_CLOEXEC });
  try {
    checked(syscallNumber(SYS.chroot, cstring(root)), () => `chroot("${root}")`);
    try {
      return action();
    } finally {
      checked(syscallNumber(SYS.fchdir, outside), () => `fchdir(${outside})`);
      checked(syscallNumber(SYS.chroot, cstring(".")), () => 'chroot(".")');
      checked(syscallNumber(SYS.fchdir, before), () => `fchdir(${before})`);
    }
  } finally {
    close(outside);
    close(before);
  }
}

const HERE = { flags: O_PATH | O_DIRECTORY | O_CLOEXEC };

/** int chdir(const char *path) — for names of any bytes, which process.chdir() does not take. What node says of the working directory is not asked in it. */
export function chdir(path: string): void {
  checked(syscallNumber(SYS.chdir, cstring(path)), () => `chdir("${path}")`);
}

/** Runs `action` with another working directory. */
export function inDirectory<T>(directory: string, action: () => T): T {
  const before = openat(AT_FDCWD, ".", HERE);
  try {
    chdir(directory);
    return action();
  } finally {
    checked(syscallNumber(SYS.fchdir, before), () => `fchdir(${before})`);
    close(before);
  }
}
