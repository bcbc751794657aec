/**
 * Byte streams (sockets, pipes) that are read and written as a whole and with a limit on how long nothing may move: poll(2),
 * read(2), write(2), splice(2), sendfile(2). Nothing here depends on an event loop.
 *
 * Constants: uapi/asm-generic/poll.h, uapi/asm-generic/fcntl.h.
 */
import { ERRNO, checked, kernelError } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { setPipeSize } from "./fcntl.js";
import { O_CLOEXEC } from "./files.js";
import { SPLICE_F_MOVE, pipe2 } from "./pipes.js";
import { SYS } from "./syscalls.js";

export const POLLIN = 1;
export const POLLPRI = 2;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;
export const POLLRDHUP = 0x2000;

const POLLFD_BYTES = 8;
const PIPE_BYTES = 1 << 20;
const MAX_MOVE_BYTES = 1 << 30;

/** A descriptor to look at, and what for. */
export interface Watched {
  readonly fd: number;
  /** POLLIN, POLLOUT. */
  readonly events: number;
}

/** int poll(struct pollfd *fds, nfds_t nfds, int timeout) — the events of each; timeout -1: for ever. A signal ends the wait. */
export function poll(watched: readonly Watched[], timeoutMs: number): number[] {
  const table = Buffer.alloc(Math.max(1, watched.length) * POLLFD_BYTES);
  watched.forEach(({ fd, events }, i) => {
    table.writeInt32LE(fd, i * POLLFD_BYTES);
    table.writeInt16LE(events, i * POLLFD_BYTES + 4);
  });
  const ready = syscallNumber(SYS.poll, table, watched.length, timeoutMs);
  if (ready === -ERRNO.EINTR || ready === 0) return watched.map(() => 0);
  checked(ready, () => `poll(${watched.length} descriptors)`);
  return watched.map((_, i) => table.readUInt16LE(i * POLLFD_BYTES + 6));
}

/** How a stream is waited for. */
export interface Patience {
  /** So long nothing may move, in milliseconds; -1: for ever. */
  readonly timeoutMs: number;
  /** Asked now and then; true: give up (as if the time was over). */
  readonly isOver?: () => boolean;
}

const SLICE_MS = 500;

/** Waits until there is something to read or room to write; ETIMEDOUT when nothing comes. */
export function waitFor(watched: Watched, { timeoutMs, isOver }: Patience): void {
  const end = timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  for (;;) {
    const left = end - performance.now();
    const slice = Math.max(0, Math.min(left, SLICE_MS));
    if ((poll([watched], Math.ceil(slice))[0] ?? 0) !== 0) return;
    if (isOver?.() === true || performance.now() >= end) throw kernelError(`poll(${watched.fd})`, ERRNO.ETIMEDOUT);
  }
}

/** Reads all of `into`; returns how many bytes came before the end of the stream. */
export function readWhole(fd: number, into: Uint8Array, patience: Patience): number {
  for (let done = 0; done < into.length; ) {
    waitFor({ fd, events: POLLIN }, patience);
    const got = syscallNumber(SYS.read, fd, into.subarray(done), into.length - done);
    if (got === -ERRNO.EAGAIN || got === -ERRNO.EINTR) continue;
    if (got === 0 || got === -ERRNO.ECONNRESET) return done;
    done += checked(got, () => `read(${fd}, ${into.length - done} bytes)`);
  }
  return into.length;
}

/** Writes all of `bytes`. A stream whose other end is gone gives EPIPE or ECONNRESET. */
export function writeWhole(fd: number, bytes: Uint8Array, patience: Patience): void {
  for (let done = 0; done < bytes.length; ) {
    const part = bytes.subarray(done);
    const wrote = syscallNumber(SYS.sendto, fd, part, part.length, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
    if (wrote === -ERRNO.EAGAIN) waitFor({ fd, events: POLLOUT }, patience);
    else if (wrote !== -ERRNO.EINTR) done += checked(wrote, () => `send(${fd}, ${part.length} bytes)`);
  }
}

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Bytes of our own memory by address, for views that JavaScript does not have. */
export function writeMemory(fd: number, from: { address: bigint; sizeBytes: number }, patience: Patience): void {
  for (let done = 0; done < from.sizeBytes; ) {
    const left = from.sizeBytes - done;
    const wrote = syscallNumber(SYS.sendto, fd, from.address + BigInt(done), left, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
    if (wrote === -ERRNO.EAGAIN) waitFor({ fd, events: POLLOUT }, patience);
    else if (wrote !== -ERRNO.EINTR) done += checked(wrote, () => `send(${fd}, ${left} bytes)`);
  }
}

/** Sends bytes of a file over a socket by sendfile(2). */
export function sendFile(fd: number, from: { fd: number; offset: bigint; bytes: bigint }, patience: Patience): void {
  const position = Buffer.alloc(8);
  for (let done = 0n; done < from.bytes; ) {
    waitFor({ fd, events: POLLOUT }, patience);
    const left = from.bytes - done;
    const want = left < BigInt(MAX_MOVE_BYTES) ? Number(left) : MAX_MOVE_BYTES;
    position.writeBigInt64LE(from.offset + done);
    const moved = syscallNumber(SYS.sendfile, fd, from.fd, position, want);
    if (moved === -ERRNO.EAGAIN || moved === -ERRNO.EINTR) continue;
    if (moved === 0) throw kernelError(`sendfile(${fd}, ${from.fd}, ${left} bytes): the file is shorter`, ERRNO.EIO);
    done += BigInt(checked(moved, () => `sendfile(${fd}, ${from.fd}, ${want})`));
  }
}

/** A pipe through which bytes go from a socket to a file without being looked at. */
export class Conduit {
  readonly #readEnd: number;
  readonly #writeEnd: number;

  constructor() {
    const { readEnd, writeEnd } = pipe2(O_CLOEXEC);
    this.#readEnd = readEnd;
    this.#writeEnd = writeEnd;
    try {
      setPipeSize(writeEnd, PIPE_BYTES);
    } catch {
      // A smaller pipe does it too.
    }
  }

  /** Moves `bytes` from stream `from` to the position of file `to`; returns how many came before the end of the stream. */
  receive(from: number, to: { fd: number; offset: bigint; bytes: bigint }, patience: Patience): bigint {
    const position = Buffer.alloc(8);
    for (let done = 0n; done < to.bytes; ) {
      waitFor({ fd: from, events: POLLIN }, patience);
      const left = to.bytes - done;
      const want = left < BigInt(PIPE_BYTES) ? Number(left) : PIPE_BYTES;
      const got = syscallNumber(SYS.splice, from, 0, this.#writeEnd, 0, want, SPLICE_F_MOVE);
      if (got === -ERRNO.EAGAIN || got === -ERRNO.EINTR) continue;
      if (got === 0 || got === -ERRNO.ECONNRESET) return done;
      checked(got, () => `splice(${from}, ${want} bytes)`);
      for (let moved = 0; moved < got; ) {
        position.writeBigInt64LE(to.offset + done);
        const put = syscallNumber(SYS.splice, this.#readEnd, 0, to.fd, position, got - moved, SPLICE_F_MOVE);
        moved += checked(put, () => `splice(to ${to.fd}, ${got - moved} bytes)`);
        done += BigInt(put);
      }
    }
    return to.bytes;
  }

  close(): void {
    syscallNumber(SYS.close, this.#readEnd);
    syscallNumber(SYS.close, this.#writeEnd);
  }
}

/** Reads exactly `sizeBytes` of a stream into our own memory at `address`; returns how many came before its end. */
export function readMemory(fd: number, into: { address: bigint; sizeBytes: number }, patience: Patience): number {
  for (let done = 0; done < into.sizeBytes; ) {
    waitFor({ fd, events: POLLIN }, patience);
    const got = syscallNumber(SYS.read, fd, into.address + BigInt(done), into.sizeBytes - done);
    if (got === -ERRNO.EAGAIN || got === -ERRNO.EINTR) continue;
    if (got === 0 || got === -ERRNO.ECONNRESET) return done;
    done += checked(got, () => `read(${fd}, ${into.sizeBytes - done} bytes)`);
  }
  return into.sizeBytes;
}

/** Address of a buffer of ours, for {@link writeMemory} and the like. SAFETY: the caller keeps it. */
export function memoryAddress(bytes: Uint8Array): bigint {
  return addressOf(bytes);
}
