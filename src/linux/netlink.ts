/**
 * netlink(7): a request, and its answers up to the acknowledgement.
 *
 * Source: uapi/linux/netlink.h.
 */
import { AF_NETLINK } from "./addresses.js";
import { ERRNO, checked, kernelError } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_RAW, socket } from "./sockets.js";
import { SYS } from "./syscalls.js";

export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_EXCL = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_CREATE = 0x400;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const HEADER_BYTES = 16;
const ATTRIBUTE_BYTES = 4;
const ANSWER_BYTES = 64 << 10;

export interface NetlinkMessage {
  readonly type: number;
  readonly body: Buffer;
}

const aligned = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** struct nlmsghdr and what follows it. */
export function encodeMessage(message: NetlinkMessage & { flags: number; sequence: number }): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(HEADER_BYTES + message.body.length, 0);
  header.writeUInt16LE(message.type, 4);
  header.writeUInt16LE(message.flags, 6);
  header.writeUInt32LE(message.sequence, 8);
  return aligned(Buffer.concat([header, message.body]));
}

/** struct nlattr and its value. */
export function attribute(type: number, value: Buffer): Buffer {
  const header = Buffer.alloc(ATTRIBUTE_BYTES);
  header.writeUInt16LE(ATTRIBUTE_BYTES + value.length, 0);
  header.writeUInt16LE(type, 2);
  return aligned(Buffer.concat([header, value]));
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value | 0, 0);
  return bytes;
}

export function openNetlink(protocol: number): number {
  return socket({ family: AF_NETLINK, type: SOCK_RAW | SOCK_CLOEXEC, protocol });
}

/** Sends messages and returns the answers that are there; throws the first error that the kernel reports. */
export function exchange(fd: number, bytes: Buffer, doing: string): NetlinkMessage[] {
  checked(syscallNumber(SYS.sendto, fd, bytes, bytes.length, 0, 0, 0), () => `sendto(netlink, ${bytes.length} bytes)`);
  const answers: NetlinkMessage[] = [];
  const memory = Buffer.alloc(ANSWER_BYTES);
  for (;;) {
    // The kernel answers before sendto(2) returns: an empty queue means that everything has been said.
    const got = syscallNumber(SYS.recvfrom, fd, memory, memory.length, MSG_DONTWAIT, 0, 0);
    if (got === -ERRNO.EAGAIN) return answers;
    checked(got, () => "recvfrom(netlink)");
    answers.push(...decodeMessages(memory.subarray(0, got), doing));
  }
}

function decodeMessages(bytes: Buffer, doing: string): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = Math.max(HEADER_BYTES, bytes.readUInt32LE(at));
    const type = bytes.readUInt16LE(at + 4);
    const body = Buffer.from(bytes.subarray(at + HEADER_BYTES, at + length));
    const error = (type === NLMSG_ERROR || type === NLMSG_DONE) && body.length >= 4 ? body.readInt32LE(0) : 0;
    if (error < 0) throw kernelError(doing, -error);
    messages.push({ type, body });
    at += (length + 3) & ~3;
  }
  return messages;
}
