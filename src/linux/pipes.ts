/**
 * pipe(2), tee(2), splice(2), vmsplice(2), ioctl(FIONREAD). Constants: linux/splice.h, uapi/asm-generic/ioctls.h.
 */
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;
export const SPLICE_F_MORE = 4;

export const FIONREAD = 0x541b;

/** int pipe2(int pipefd[2], int flags). */
export function pipe2(flags: number): { readonly readEnd: number; readonly writeEnd: number } {
  const bytes = Buffer.alloc(8);
  checked(syscallNumber(SYS.pipe2, bytes, flags), () => `pipe2(0${flags.toString(8)})`);
  return { readEnd: bytes.readInt32LE(0), writeEnd: bytes.readInt32LE(4) };
}

/** ssize_t tee(int fd_in, int fd_out, size_t size, unsigned int flags) — copies from pipe to pipe, leaves the data where it is; 0: nothing there. */
export function tee(fromFd: number, toFd: number, sizeBytes: number): number {
  const got = syscallNumber(SYS.tee, fromFd, toFd, sizeBytes, SPLICE_F_NONBLOCK);
  return got === -ERRNO.EAGAIN ? 0 : checked(got, () => `tee(${fromFd}, ${toFd}, ${sizeBytes})`);
}

/** ssize_t splice(…) — moves bytes between a pipe and another descriptor, each at its own position; 0: nothing there. */
export function splice(fromFd: number, toFd: number, sizeBytes: number): number {
  const got = syscallNumber(SYS.splice, fromFd, 0, toFd, 0, sizeBytes, SPLICE_F_NONBLOCK);
  return got === -ERRNO.EAGAIN ? 0 : checked(got, () => `splice(${fromFd}, ${toFd}, ${sizeBytes})`);
}

/** ioctl(fd, FIONREAD, &n) — bytes that can be read from a pipe, socket, terminal, inotify. */
export function bytesToRead(fd: number): number {
  const bytes = Buffer.alloc(4);
  checked(syscallNumber(SYS.ioctl, fd, FIONREAD, bytes), () => `ioctl(${fd}, FIONREAD)`);
  return bytes.readInt32LE(0);
}
