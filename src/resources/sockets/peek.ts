/**
 * Reading what waits in the queue of a socket without taking anything out: MSG_PEEK at an offset (SO_PEEK_OFF).
 */
import { ERRNO } from "../../linux/errno.js";
import { KernelError } from "../../errors.js";
import { close } from "../../linux/files.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO } from "../../linux/socket-options.js";
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
  recvmsg,
  rightsOf,
  setsockoptInt,
} from "../../linux/sockets.js";
import type { SocketAddress } from "../../linux/addresses.js";
import type { Fd } from "../part.js";

const PEEK = MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
const PEEK_OFF = { level: SOL_SOCKET, name: SO.PEEK_OFF };
const SCM_PIDFD = 4;
/** Room for descriptors, credentials, a pidfd, a security label and time stamps. */
const CONTROL_BYTES = SCM_MAX_FD * 4 + 1024;
const FIRST_BUFFER_BYTES = 256 << 10;
const MAX_MESSAGE_BYTES = 1 << 30;

/** A message in a queue. The descriptors are ours to close. */
export interface QueuedMessage {
  readonly data: Buffer;
  readonly fds: readonly Fd[];
  readonly from: SocketAddress | undefined;
  readonly credentials: { readonly pid: number; readonly uid: number; readonly gid: number } | undefined;
  /** Control messages of other kinds. */
  readonly unknown: readonly ControlMessage[];
}

/** Runs `look` with the peek offset of the socket free to use, and puts it back. */
function withOffset<T>(fd: Fd, look: () => T): T {
  const before = getsockoptInt(fd, PEEK_OFF);
  try {
    return look();
  } finally {
    setsockoptInt(fd, PEEK_OFF, before);
  }
}

function peekAt(fd: Fd, offset: number, maxBytes: number): ReceivedMessage | undefined {
  setsockoptInt(fd, PEEK_OFF, offset);
  return recvmsg(fd, { maxBytes, controlBytes: CONTROL_BYTES, flags: PEEK });
}

/**
 * Messages of a datagram or seqpacket socket, in order.
 *
 * `ends`: nothing more can arrive at a seqpacket socket. It then gives empty messages for ever when it has been read.
 */
export function peekMessages(fd: Fd, { ends }: { ends: boolean }): QueuedMessage[] {
  const total = ends ? bytesToRead(fd) : Number.POSITIVE_INFINITY;
  return withOffset(fd, () => {
    const messages: QueuedMessage[] = [];
    for (let offset = 0; ; ) {
      const got = offset >= total ? undefined : peekWhole(fd, offset);
      if (got === undefined) return messages;
      messages.push(taken(got));
      offset += got.data.length;
    }
  });
}

/** One message with a buffer that is large enough for it. */
function peekWhole(fd: Fd, offset: number): ReceivedMessage | undefined {
  for (let size = FIRST_BUFFER_BYTES; size <= MAX_MESSAGE_BYTES; size *= 8) {
    let got: ReceivedMessage | undefined;
    try {
      got = peekAt(fd, offset, size);
    } catch (error) {
      // An error that the socket reports once comes before what can be read.
      if (!(error instanceof KernelError) || error.errno !== ERRNO.ECONNRESET) throw error;
      got = peekAt(fd, offset, size);
    }
    if (got === undefined || (got.flags & MSG_TRUNC) === 0) return got;
    closeAll(got);
  }
  throw new Error(`internal error: a message of more than ${MAX_MESSAGE_BYTES} bytes`);
}

/**
 * What a stream socket holds, cut where descriptors travel along.
 *
 * The kernel glues what comes before a message with descriptors to it when both fit into the buffer, so the place where
 * the message begins is searched for: a shorter read does not get the descriptors.
 */
export function peekStream(fd: Fd): QueuedMessage[] {
  const total = bytesToRead(fd);
  if (total === 0) return [];
  return withOffset(fd, () => {
    const chunks: QueuedMessage[] = [];
    for (let offset = 0; offset < total; ) {
      const got = peekAt(fd, offset, total - offset);
      if (got === undefined || got.data.length === 0) break;
      const chunk = taken(got);
      const before = chunk.fds.length === 0 ? 0 : bytesBefore(fd, offset, got.data.length);
      if (before > 0) {
        for (const one of chunk.fds) close(one);
        const plain = peekAt(fd, offset, before);
        if (plain === undefined) break;
        chunks.push(taken(plain));
        offset += before;
      } else {
        chunks.push(chunk);
        offset += chunk.data.length;
      }
    }
    return chunks;
  });
}

/** How many bytes at `offset` can be read without getting descriptors; `length` bytes get some. */
function bytesBefore(fd: Fd, offset: number, length: number): number {
  let without = 0;
  let withSome = length;
  while (withSome - without > 1) {
    const middle = (without + withSome) >>> 1;
    const got = peekAt(fd, offset, middle);
    const fds = got === undefined ? [] : rightsOf(got.control);
    if (got !== undefined) closeAll(got);
    if (fds.length > 0) withSome = middle;
    else without = middle;
  }
  return without;
}

function closeAll(got: ReceivedMessage): void {
  for (const fd of rightsOf(got.control)) close(fd);
  closePidfds(got);
}

function closePidfds(got: ReceivedMessage): void {
  for (const { level, type, data } of got.control) if (level === SOL_SOCKET && type === SCM_PIDFD && data.length === 4) close(data.readInt32LE(0));
}

function taken(got: ReceivedMessage): QueuedMessage {
  closePidfds(got);
  if ((got.flags & MSG_CTRUNC) !== 0) throw new Error("internal error: control messages of a peeked message were cut off");
  const credentials = got.control.find((c) => c.level === SOL_SOCKET && c.type === SCM_CREDENTIALS)?.data;
  const known = [SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD];
  return {
    data: got.data,
    fds: rightsOf(got.control),
    from: got.from,
    credentials: credentials === undefined ? undefined : { pid: credentials.readUInt32LE(0), uid: credentials.readUInt32LE(4), gid: credentials.readUInt32LE(8) },
    unknown: got.control.filter((c) => c.level !== SOL_SOCKET || !known.includes(c.type)),
  };
}
