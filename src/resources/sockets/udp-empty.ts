/**
 * Empty datagrams at UDP sockets: one that somebody has looked at before, and that is not the first, is not shown by MSG_PEEK any more
 * (the kernel passes over it), nor is any by a second dump. The kernel's memory shows them, and from whom they came.
 */
import { AF_INET6, type SocketAddress } from "../../linux/addresses.js";
import type { KernelBuffer } from "../../linux/kernel-sockets.js";
import type { Fd } from "../part.js";
import { MAPPED } from "./inet-address.js";
import type { QueuedMessage } from "./peek.js";
import { kernelSockets } from "./unseen.js";

/** Offsets in headers: RFC 791, RFC 8200. */
const SOURCE4 = 12;
const SOURCE6 = 8;

/** The messages, and the empty ones that are missing among them. */
export function withEmpty(fd: Fd, messages: readonly QueuedMessage[], family: number): readonly QueuedMessage[] {
  const kernel = kernelSockets();
  const socket = kernel?.has("udp_sock") === true ? kernel.find(fd) : undefined;
  if (kernel === undefined || socket === undefined) return messages;
  // What the reader has taken over comes first.
  const queues = [kernel.at("udp_sock", "reader_queue"), kernel.at("sock", "sk_receive_queue")].map((at) => socket + BigInt(at));
  if (queues.reduce((sum, queue) => sum + (kernel.count(queue) ?? 0), 0) === messages.length) return messages;
  const waiting = messages.filter(({ data }) => data.length > 0);
  const all: QueuedMessage[] = [];
  let taken = 0;
  for (const address of queues.flatMap((queue) => kernel.queue(queue) ?? [])) {
    if (kernel.lengthOf(address) !== 0) {
      const next = waiting[taken++];
      if (next === undefined) return messages; // it is not as it was: something else reads from it
      all.push(next);
      continue;
    }
    const buffer = kernel.buffer(address);
    if (buffer === undefined) return messages;
    all.push({ data: Buffer.alloc(0), fds: [], from: senderOf(buffer, family), credentials: undefined, unknown: [] });
  }
  return taken === waiting.length ? all : messages;
}

/** All messages as they lie in memory; undefined: that cannot be looked at. */
export function allInMemory(fd: Fd, family: number): QueuedMessage[] | undefined {
  const kernel = kernelSockets();
  const socket = kernel?.has("udp_sock") === true ? kernel.find(fd) : undefined;
  if (kernel === undefined || socket === undefined) return undefined;
  const queues = [kernel.at("udp_sock", "reader_queue"), kernel.at("sock", "sk_receive_queue")].map((at) => socket + BigInt(at));
  const buffers = queues.flatMap((queue) => kernel.queue(queue) ?? []).map((address) => kernel.buffer(address));
  if (!buffers.every((buffer) => buffer !== undefined)) return undefined;
  return buffers.map((buffer) => ({
    data: Buffer.concat([buffer.memory.subarray(buffer.data), buffer.pages]),
    fds: [],
    from: senderOf(buffer, family),
    credentials: undefined,
    unknown: [],
  }));
}

function senderOf({ memory, network, transport, control }: KernelBuffer, family: number): SocketAddress | undefined {
  if (memory.length < transport + 2 || network + SOURCE6 + 16 > memory.length) return undefined;
  const port = memory.readUInt16BE(transport);
  const place = { port, flowInfo: 0 };
  if ((memory[network] ?? 0) >> 4 === 4) {
    const address = Buffer.from(memory.subarray(network + SOURCE4, network + SOURCE4 + 4));
    return family === AF_INET6
      ? { family: "inet6", address: Buffer.concat([MAPPED, address]), ...place, scopeId: 0 }
      : { family: "inet", address, port };
  }
  const address = Buffer.from(memory.subarray(network + SOURCE6, network + SOURCE6 + 16));
  // struct inet6_skb_parm begins with the number of the device, which matters for addresses of a link.
  const isOfLink = (address.readUInt16BE(0) & 0xffc0) === 0xfe80;
  return { family: "inet6", address, ...place, scopeId: isOfLink ? control.readUInt32LE(0) : 0 };
}
