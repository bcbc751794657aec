/**
 * Streams over sockets that are only descriptors, in an event loop.
 *
 * Neither runtime can be handed such a socket and do all that is wanted with it (Bun takes none; reading by node:fs blocks one of
 * a few threads each). So poll(2) is asked between two turns of the loop: while something happens without waiting, then with.
 */
import { Duplex } from "node:stream";
import { ERRNO } from "../../linux/errno.js";
import { getStatusFlags, setStatusFlags } from "../../linux/fcntl.js";
import { syscallNumber } from "../../linux/ffi/native.unsafe.js";
import { shutdown } from "../../linux/sockets.js";
import { POLLIN, POLLOUT, poll } from "../../linux/streams.js";
import { SYS } from "../../linux/syscalls.js";
import { kernelError } from "../../linux/errno.js";

const O_NONBLOCK = 0o4000;
const SHUT_WR = 1;
const CHUNK_BYTES = 64 << 10;
/** So many turns without anything new, and the next look waits: TLS needs some turns of its own. */
const TURNS = 8;
const WAIT_MS = 20;

interface Open {
  readonly fd: number;
  readonly stream: Duplex;
  wantsRead: boolean;
  /** What is being written, and what to call then. */
  pending: { bytes: Buffer; done: (error?: Error) => void } | undefined;
}

export class SocketStreams {
  readonly #open: Open[] = [];
  #quiet = 0;
  #isRunning = false;

  open(fd: number): Duplex {
    setStatusFlags(fd, getStatusFlags(fd) | O_NONBLOCK);
    const stream = new Duplex({
      allowHalfOpen: true,
      read: () => {
        one.wantsRead = true;
      },
      write: (bytes: Buffer, _encoding, done) => {
        one.pending = { bytes, done };
        this.#write(one);
      },
      final: (done) => {
        try {
          shutdown(fd, SHUT_WR);
        } catch {
          // The other end is gone: it knows already.
        }
        done();
      },
    });
    const one: Open = { fd, stream, wantsRead: false, pending: undefined };
    this.#open.push(one);
    if (!this.#isRunning) setImmediate(() => this.#turn());
    this.#isRunning = true;
    return stream;
  }

  #turn(): void {
    const open = this.#open.filter(({ stream }) => !stream.destroyed);
    const watched = open.map(({ fd, wantsRead, pending }) => ({
      fd,
      events: (wantsRead ? POLLIN : 0) | (pending === undefined ? 0 : POLLOUT),
    }));
    const events = poll(watched, this.#quiet > TURNS ? WAIT_MS : 0);
    this.#quiet++;
    open.forEach((one, i) => {
      const asked = watched[i]?.events ?? 0;
      if ((events[i] ?? 0) === 0 || asked === 0) return;
      this.#quiet = 0;
      if (one.pending !== undefined) this.#write(one);
      if (one.wantsRead) this.#read(one);
    });
    setImmediate(() => this.#turn());
  }

  #read(one: Open): void {
    const bytes = Buffer.allocUnsafe(CHUNK_BYTES);
    const got = syscallNumber(SYS.read, one.fd, bytes, bytes.length);
    if (got === -ERRNO.EAGAIN) return;
    one.wantsRead = false;
    if (got < 0) one.stream.destroy(kernelError(`read(${one.fd})`, got));
    else one.stream.push(got === 0 ? null : bytes.subarray(0, got));
  }

  #write(one: Open): void {
    const { pending } = one;
    if (pending === undefined) return;
    const { bytes, done } = pending;
    const wrote = syscallNumber(SYS.sendto, one.fd, bytes, bytes.length, MSG_NOSIGNAL, 0, 0);
    if (wrote === -ERRNO.EAGAIN) return;
    if (wrote >= 0 && wrote < bytes.length) {
      pending.bytes = bytes.subarray(wrote);
      return;
    }
    one.pending = undefined;
    this.#quiet = 0;
    done(wrote < 0 ? kernelError(`send(${one.fd}, ${bytes.length} bytes)`, wrote) : undefined);
  }
}

const MSG_NOSIGNAL = 0x4000;
