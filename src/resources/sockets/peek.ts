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
 * What a stream socket holds, cut behind each message with descriptors.
 *
 * Where such a message begins cannot be told: a peek brings the descriptors of the next message that has some, however
 * short it is. So they travel with all bytes since the last ones.
 */
export function peekStream(fd: Fd): QueuedMessage[] {
  const total = bytesToRead(fd);
  if (total === 0) return [];
  return withOffset(fd, () => {
    const chunks: QueuedMessage[] = [];
    for (let offset = 0; offset < total; ) {
      const got = peekAt(fd, offset, total - offset);
      if (got === undefined || got.data.length === 0) break;
      chunks.push(taken(got));
      offset += got.data.length;
    }
    return chunks;
  });
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
  const known = [SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD];
  return {
    data: got.data,
    fds: rightsOf(got.control),
    from: got.from,
    credentials:
      credentials === undefined
        ? undefined
        : { pid: credentials.readUInt32LE(0), uid: credentials.readUInt32LE(4), gid: credentials.readUInt32LE(8) },
    unknown: got.control.filter((c) => c.level !== SOL_SOCKET || !known.includes(c.type)),
  };
}
