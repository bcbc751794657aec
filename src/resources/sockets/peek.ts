/**
 * Reading what waits in the queue of a socket without taking anything out: MSG_PEEK at an offset (SO_PEEK_OFF).
 */
import { ERRNO } from "../../linux/errno.js";
import { KernelError } from "../../errors.js";
import { close } from "../../linux/files.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO, isAtMark } from "../../linux/socket-options.js";
import {
  type ControlMessage,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_TRUNC,
  type ReceivedMessage,
  SCM_CREDENTIALS,
  SCM_MAX_FD,
  SCM_RIGHTS,
  SOL_SOCKET,
  getsockoptInt,
  recvWholePieces,
  recvUrgent,
  recvmsg,
  rightsOf,
  setsockoptInt,
} from "../../linux/sockets.js";
import type { SocketAddress } from "../../linux/addresses.js";
import type { Fd } from "../part.js";

const PEEK = MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
const PEEK_OFF = { level: SOL_SOCKET, name: SO.PEEK_OFF };
const SCM_PIDFD = 4;
/** SCM_TIMESTAMP, SCM_TIMESTAMPNS, SCM_TIMESTAMPING, and the same with 64 bits (uapi/asm-generic/socket.h): a message that is sent again gets others. */
const TIME_STAMPS: readonly number[] = [29, 35, 37, 63, 64, 65];
/** Room for descriptors, credentials, a pidfd, a security label and time stamps. */
const CONTROL_BYTES = SCM_MAX_FD * 4 + 1024;
const FIRST_BUFFER_BYTES = 8 << 10;
const MAX_MESSAGE_BYTES = 1 << 30;

/** A message in a queue. The descriptors are ours to close. */
export interface QueuedMessage {
  readonly data: Buffer;
  readonly fds: readonly Fd[];
  readonly from: SocketAddress | undefined;
  readonly credentials: { readonly pid: number; readonly uid: number; readonly gid: number } | undefined;
  /** Control messages of other kinds. */
  readonly unknown: readonly ControlMessage[];
  /** The urgent byte of a stream (MSG_OOB); empty: it was read, and its place still is a mark. */
  readonly urgent?: boolean;
  /** Cut from what stands before it by {@link peekStream}. */
  readonly isParted?: boolean;
}

/** Puts a socket's own offset back should we die while it has ours: somebody else has to do it then. */
export interface OffsetGuard {
  /** From now on; `offset` is what it was. */
  arm(offset: number): void;
  /** The socket has our offset. */
  changed(): void;
  disarm(): void;
}

/** Looks into the queue of one socket. Its own offset is touched only where there is something behind the first message. */
class Look {
  readonly fd: Fd;
  readonly #own: number;
  readonly #guard: OffsetGuard | undefined;
  #isTouched = false;
  /** Whether the first message is known, which may be empty: only without an offset it is shown again and again. */
  isBehindFirst = false;

  constructor(fd: Fd, guard: OffsetGuard | undefined) {
    this.fd = fd;
    this.#own = getsockoptInt(fd, PEEK_OFF);
    this.#guard = guard;
  }

  /** Runs `look`, and puts the offset back. */
  static into<T>(fd: Fd, guard: OffsetGuard | undefined, look: (at: Look) => T): T {
    const at = new Look(fd, guard);
    try {
      return look(at);
    } finally {
      at.#leave();
    }
  }

  /** Makes the next look begin at `offset`. */
  seek(offset: number): void {
    // Without an offset of its own a socket shows the beginning.
    if (offset === 0 && this.#own < 0 && !this.#isTouched && !this.isBehindFirst) return;
    if (!this.#isTouched) this.#guard?.arm(this.#own);
    this.#isTouched = true;
    setsockoptInt(this.fd, PEEK_OFF, offset);
    this.#guard?.changed();
  }

  #leave(): void {
    if (!this.#isTouched) return;
    setsockoptInt(this.fd, PEEK_OFF, this.#own);
    this.#guard?.disarm();
  }

  receive(offset: number, maxBytes: number): ReceivedMessage | undefined {
    this.seek(offset);
    return recvmsg(this.fd, { maxBytes, controlBytes: CONTROL_BYTES, flags: PEEK });
  }
}

/**
 * Messages of a datagram or seqpacket socket, in order.
 *
 * `ends`: nothing more can arrive at a seqpacket socket. It then gives empty messages for ever when it has been read. An
 * empty datagram behind the first that somebody has looked at before is not shown again: the kernel passes over it.
 */
export function peekMessages(fd: Fd, { ends, guard }: { ends: boolean; guard?: OffsetGuard | undefined }): QueuedMessage[] {
  const total = ends ? bytesToRead(fd) : Number.POSITIVE_INFINITY;
  return Look.into(fd, guard, (at) => {
    const messages: QueuedMessage[] = [];
    for (let offset = 0; ; ) {
      const got = offset >= total ? undefined : peekWhole(at, offset);
      if (got === undefined) return messages;
      messages.push(taken(got));
      offset += got.data.length;
      at.isBehindFirst = true;
    }
  });
}

/** One message with a buffer that is large enough for it. */
function peekWhole(at: Look, offset: number): ReceivedMessage | undefined {
  for (let size = FIRST_BUFFER_BYTES; size <= MAX_MESSAGE_BYTES; size *= 8) {
    let got: ReceivedMessage | undefined;
    try {
      got = at.receive(offset, size);
    } catch (error) {
      // An error that the socket reports once comes before what can be read.
      if (!(error instanceof KernelError) || error.errno !== ERRNO.ECONNRESET) throw error;
      got = at.receive(offset, size);
    }
    if (got === undefined || (got.flags & MSG_TRUNC) === 0) return got;
    closeAll(got);
  }
  throw new Error(`internal error: a message of more than ${MAX_MESSAGE_BYTES} bytes`);
}

/**
 * What a stream socket holds, in pieces that must be sent one by one: those with descriptors, of different writers, and
 * the urgent byte stand alone; everything else is glued.
 */
export function peekStream(fd: Fd, guard?: OffsetGuard): QueuedMessage[] {
  const total = bytesToRead(fd);
  if (total === 0 && !isAtMark(fd)) return [];
  return Look.into(fd, guard, (at) => {
    const pieces: QueuedMessage[] = [];
    // A peek stops behind a piece with descriptors, before another writer's, and at the urgent mark.
    for (let offset = 0; offset < total; ) {
      const got = at.receive(offset, total - offset);
      if (got === undefined || got.data.length === 0) break;
      pieces.push(...parted(at, offset, taken(got)));
      offset += got.data.length;
    }
    return withUrgent(fd, pieces);
  });
}

/**
 * Parts what is glued to the front of a piece with descriptors.
 *
 * A peek brings the descriptors of the next piece that has some, however short it is; but its bytes end with that piece.
 */
function parted(at: Look, offset: number, piece: QueuedMessage): QueuedMessage[] {
  if (piece.fds.length === 0) return [piece];
  at.seek(offset);
  const start = recvWholePieces(at.fd, { goodBytes: piece.data.length - 1, badBytes: 1, flags: PEEK });
  if (start === 0) return [piece];
  return [
    { ...piece, data: piece.data.subarray(0, start), fds: [], unknown: [] },
    { ...piece, data: piece.data.subarray(start), isParted: true },
  ];
}

/** Marks the urgent byte of a stream among its pieces; one that was read already leaves an empty piece. */
function withUrgent(fd: Fd, pieces: QueuedMessage[]): QueuedMessage[] {
  const waiting = recvUrgent(fd, PEEK);
  const isFirst = isAtMark(fd);
  const at = isFirst ? 0 : pieces.findIndex((piece, i) => i > 0 && isMark(piece, pieces[i - 1], waiting));
  if (at < 0) return pieces;
  const behind = pieces[at];
  const isInline = getsockoptInt(fd, { level: SOL_SOCKET, name: SO.OOBINLINE }) !== 0;
  const before = pieces.slice(0, at);
  const mark = { fds: [], from: undefined, credentials: behind?.credentials, unknown: [], urgent: true };
  // A peek at the very mark passes over the byte, if it is not one of the stream's own.
  if (isFirst && !isInline) return [{ ...mark, data: Buffer.from(waiting === undefined ? [] : [waiting]) }, ...pieces];
  if (waiting === undefined && !isInline) return [...before, { ...mark, data: Buffer.alloc(0) }, ...pieces.slice(at)];
  if (behind === undefined) return pieces;
  const rest = { ...behind, data: behind.data.subarray(1) };
  const after = rest.data.length > 0 || rest.fds.length > 0 ? [rest] : [];
  return [...before, { ...mark, data: behind.data.subarray(0, 1) }, ...after, ...pieces.slice(at + 1)];
}

/** Whether a peek stopped before `piece` for no other reason than the urgent mark. */
function isMark(piece: QueuedMessage, before: QueuedMessage | undefined, waiting: number | undefined): boolean {
  if (before === undefined || before.fds.length > 0 || piece.isParted === true) return false;
  const writers = [before.credentials, piece.credentials].map((c) => `${c?.pid},${c?.uid},${c?.gid}`);
  return writers[0] === writers[1] && (waiting === undefined || piece.data[0] === waiting);
}

/** What a queued message carries besides what can be sent again: a security label (SCM_SECURITY), as far as is known. */
export function refuseUnknown(messages: readonly QueuedMessage[], stop: (code: string, because: string, remedy: string) => void): void {
  for (const { level, type } of messages.flatMap(({ unknown }) => unknown))
    stop(
      "SOCKET_CONTROL_MESSAGE",
      `a queued message carries a control message of level ${level} and type ${type}`,
      "Let the program read its messages first",
    );
}

function closeAll(got: ReceivedMessage): void {
  for (const fd of rightsOf(got.control)) close(fd);
  closePidfds(got);
}

function closePidfds(got: ReceivedMessage): void {
  for (const { level, type, data } of got.control)
    if (level === SOL_SOCKET && type === SCM_PIDFD && data.length === 4) close(data.readInt32LE(0));
}

function taken(got: ReceivedMessage): QueuedMessage {
  closePidfds(got);
  if ((got.flags & MSG_CTRUNC) !== 0) throw new Error("internal error: control messages of a peeked message were cut off");
  const credentials = got.control.find((c) => c.level === SOL_SOCKET && c.type === SCM_CREDENTIALS)?.data;
  const known = [SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD, ...TIME_STAMPS];
  return {
    data: got.data,
    fds: rightsOf(got.control),
    from: got.from,
    // Process 0: the message was sent when nobody asked for its sender.
    credentials:
      credentials === undefined || credentials.readUInt32LE(0) === 0
        ? undefined
        : { pid: credentials.readUInt32LE(0), uid: credentials.readUInt32LE(4), gid: credentials.readUInt32LE(8) },
    unknown: got.control.filter((c) => c.level !== SOL_SOCKET || !known.includes(c.type)),
  };
}
