/**
 * Corked output of UDP, UDP-Lite and raw sockets: part of a datagram that waits for the rest (UDP_CORK, MSG_MORE).
 *
 * Read from   the kernel's memory, as no system call tells it: the buffers of the socket's queue, and `cork` of struct inet_sock
 *             with the way and the settings of the datagram
 * Made with   sendmsg(2) with MSG_MORE
 * Refused     where memory of the kernel may not be read; datagrams with options of IP of their own: UDP_CORKED
 */
import { KernelError } from "../../errors.js";
import { AF_INET6, type SocketAddress, decodeAddress, encodeAddress } from "../../linux/addresses.js";
import type { KernelBuffer, KernelSockets } from "../../linux/kernel-sockets.js";
import { bytesUnread } from "../../linux/socket-options.js";
import { type ControlMessage, MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, getsockname, getsockoptInt, sendmsg } from "../../linux/sockets.js";
import type { Fd, RestoreSession } from "../part.js";
import { MAPPED, placedAddress, unmapped } from "./inet-address.js";
import { IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, type InetKind } from "./inet-options.js";
import { isUdp } from "./inet-socket.js";
import type { Cork, InetSkEntry } from "./inet.schema.js";
import { kernelSockets } from "./unseen.js";

const IP_TOS = 1;
const IP_TTL = 2;
const IP_PKTINFO = 8;
const IPV6_PKTINFO = 50;
const IPV6_HOPLIMIT = 52;
const IPV6_TCLASS = 67;
const UDP_SEGMENT = 103;
/** include/net/inet_sock.h. */
const IPCORK_OPT = 1;
const UDP_HEAD_BYTES = 8;
const STRUCTS = ["inet_sock", "inet_cork_full", "inet_cork", "flowi_common", "flowi4", "flowi6", "udp_sock", "inet6_cork", "ipv6_pinfo"];

/** What a socket holds back: nothing, something that cannot be read, or this. */
export function readCork(fd: Fd, kind: InetKind): Cork | "unreadable" | undefined {
  if (bytesUnread(fd) === 0) return undefined;
  const kernel = kernelSockets();
  const address = kernel?.has(...STRUCTS) === true ? kernel.find(fd) : undefined;
  if (kernel === undefined || address === undefined) return isHeldBack(fd) ? "unreadable" : undefined;
  const queue = kernel.queue(address + BigInt(kernel.at("sock", "sk_write_queue")));
  if (queue?.length === 0) return undefined; // it is on its way through a device
  const parts = queue?.map((buffer) => kernel.buffer(buffer)) ?? [];
  const memory = kernel.read(address, kernel.sizeOf(isUdp(kind) ? "udp_sock" : "inet_sock"));
  if (memory === undefined || parts.length === 0 || parts.includes(undefined)) return "unreadable";
  return corkOf(parts as KernelBuffer[], { kernel, memory, fd, kind }) ?? "unreadable";
}

const SENDING_LIMIT_MS = 20;

/** Whether data stays in the socket: what is only on its way through a device is gone soon. */
function isHeldBack(fd: Fd): boolean {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (let waitedMs = 0; bytesUnread(fd) > 0; waitedMs++) {
    if (waitedMs === SENDING_LIMIT_MS) return true;
    Atomics.wait(nap, 0, 0, 1);
  }
  return false;
}

function int(level: number, type: number, value: number): ControlMessage {
  const data = Buffer.alloc(4);
  data.writeInt32LE(value, 0);
  return { level, type, data };
}

interface Seen {
  readonly kernel: KernelSockets;
  /** struct udp_sock, or inet_sock. */
  readonly memory: Buffer;
  readonly fd: Fd;
  readonly kind: InetKind;
}

function corkOf(parts: readonly KernelBuffer[], seen: Seen): Cork | undefined {
  const { kernel, memory, kind } = seen;
  const all = Buffer.concat(parts.flatMap((part) => [part.memory.subarray(part.transport), part.pages]));
  const hasOptions = (memory.readUInt32LE(corkAt(kernel, "flags")) & IPCORK_OPT) !== 0;
  if (hasOptions || all.length !== memory.readUInt32LE(corkAt(kernel, "length"))) return undefined;
  // A socket of IPv6 may send to an address of IPv4.
  const family = isUdp(kind) ? memory.readInt32LE(kernel.at("udp_sock", "pending")) : kind.family;
  const way = family === AF_INET6 ? way6(seen) : way4(seen);
  if (way === undefined) return undefined;
  return {
    data: isUdp(kind) ? all.subarray(UDP_HEAD_BYTES) : all,
    to: encodeAddress(way.to),
    ...(way.from === undefined ? {} : { from: encodeAddress(way.from) }),
    control: [...way.control, ...segments(seen)],
  };
}

/** Where members of struct inet_cork, and of the way of a datagram, lie in a socket. */
const corkAt = (kernel: KernelSockets, member: string) =>
  kernel.at("inet_sock", "cork") + kernel.at("inet_cork_full", "base") + kernel.at("inet_cork", member);
const flowAt = (kernel: KernelSockets, [struct, member]: readonly [string, string]) =>
  kernel.at("inet_sock", "cork") + kernel.at("inet_cork_full", "fl") + kernel.at(struct, member);

interface Way {
  readonly to: SocketAddress;
  /** Where the socket has no address of its own. */
  readonly from: SocketAddress | undefined;
  readonly control: ControlMessage[];
}

function way4({ kernel, memory, fd, kind }: Seen): Way {
  const is6 = kind.family === AF_INET6;
  const bytes = (member: string) => memory.subarray(flowAt(kernel, ["flowi4", member])).subarray(0, 4);
  // What raw sockets say of their way is not kept; with an option of IP the address would be that of the first stop.
  const cork = corkAt(kernel, "addr");
  const address = isUdp(kind) ? bytes("daddr") : memory.subarray(cork, cork + 4);
  const own = isUdp(kind) && isAnywhere(fd) ? bytes("saddr") : undefined;
  const inet = (four: Buffer, port: number): SocketAddress =>
    is6
      ? { family: "inet6", address: Buffer.concat([MAPPED, four]), port, flowInfo: 0, scopeId: 0 }
      : { family: "inet", address: Buffer.from(four), port };
  const control: ControlMessage[] = [];
  const [ttl, tos] = [memory.readUInt8(corkAt(kernel, "ttl")), memory.readInt16LE(corkAt(kernel, "tos"))];
  if (ttl !== 0) control.push(int(IPPROTO_IP, IP_TTL, ttl));
  if (tos >= 0 && tos !== getsockoptInt(fd, { level: IPPROTO_IP, name: IP_TOS })) control.push(int(IPPROTO_IP, IP_TOS, tos));
  const port = isUdp(kind) ? memory.readUInt16BE(flowAt(kernel, ["flowi4", "uli"])) : 0;
  return { to: inet(address, port), from: own === undefined ? undefined : inet(own, 0), control };
}

function way6({ kernel, memory, fd, kind }: Seen): Way | undefined {
  const pinet6 = kernel.layout["inet_sock"]?.at["pinet6"];
  const options = pinet6 === undefined ? undefined : kernel.read(memory.readBigUInt64LE(pinet6), kernel.sizeOf("ipv6_pinfo"));
  const cork = kernel.at("ipv6_pinfo", "cork");
  if (options === undefined || options.subarray(cork + kernel.at("inet6_cork", "opt")).readBigUInt64LE(0) !== 0n) return undefined;
  const bytes = (member: string) => Buffer.from(memory.subarray(flowAt(kernel, ["flowi6", member])).subarray(0, 16));
  const oif = memory.readUInt32LE(flowAt(kernel, ["flowi_common", "flowic_oif"]));
  const inet = (address: Buffer, port: number): SocketAddress => {
    // fe80::/10, and groups of a link.
    const isOfLink = (address.readUInt16BE(0) & 0xffc0) === 0xfe80 || (address[0] === 0xff && ((address[1] ?? 0) & 15) <= 2);
    return { family: "inet6", address, port, flowInfo: 0, scopeId: isOfLink ? oif : 0 };
  };
  const control = [
    int(IPPROTO_IPV6, IPV6_HOPLIMIT, options.readUInt8(cork + kernel.at("inet6_cork", "hop_limit"))),
    int(IPPROTO_IPV6, IPV6_TCLASS, options.readUInt8(cork + kernel.at("inet6_cork", "tclass"))),
  ];
  const port = isUdp(kind) ? memory.readUInt16BE(flowAt(kernel, ["flowi6", "uli"])) : 0;
  return { to: inet(bytes("daddr"), port), from: isUdp(kind) && isAnywhere(fd) ? inet(bytes("saddr"), 0) : undefined, control };
}

function isAnywhere(fd: Fd): boolean {
  const own = getsockname(fd);
  return (own.family === "inet" || own.family === "inet6") && own.address.every((byte) => byte === 0);
}

/** UDP_SEGMENT given with the data instead of as an option. */
function segments({ kernel, memory, kind }: Seen): ControlMessage[] {
  if (!isUdp(kind)) return [];
  const size = memory.readUInt16LE(corkAt(kernel, "gso_size"));
  if (size === memory.readUInt16LE(kernel.at("udp_sock", "gso_size"))) return [];
  const data = Buffer.alloc(2);
  data.writeUInt16LE(size, 0);
  return [{ level: IPPROTO_UDP, type: UDP_SEGMENT, data }];
}

/** Puts the first part of a datagram into a socket that is complete but for that. */
export function corkAgain(fd: Fd, entry: InetSkEntry, session: RestoreSession): void {
  const { cork } = entry;
  if (cork === undefined) return;
  const placed = (bytes: Uint8Array) => placedAddress(decodeAddress(Buffer.from(bytes)), session);
  const control = cork.control.map(({ level, type, data }) => ({ level, type, data: Buffer.from(data) }));
  const from = cork.from === undefined ? undefined : placed(cork.from);
  const send = (more: ControlMessage[]) =>
    sendmsg(fd, Buffer.from(cork.data), {
      to: placed(cork.to),
      control: [...control, ...more],
      flags: MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL,
    });
  if (from !== undefined) {
    try {
      send([sourceMessage(from)]);
      return;
    } catch (error) {
      // The address is no one of ours any more: the kernel chooses another.
      if (!(error instanceof KernelError)) throw error;
    }
  }
  send([]);
}

/** IP_PKTINFO, IPV6_PKTINFO: which address a datagram is to come from. */
function sourceMessage(from: SocketAddress): ControlMessage {
  if (from.family !== "inet" && from.family !== "inet6") throw new Error(`internal error: no source address of family ${from.family}`);
  const four = unmapped(from.address);
  if (four.length === 4) return { level: IPPROTO_IP, type: IP_PKTINFO, data: Buffer.concat([Buffer.alloc(4), four, Buffer.alloc(4)]) };
  const device = Buffer.alloc(4);
  if (from.family === "inet6") device.writeUInt32LE(from.scopeId, 0);
  return { level: IPPROTO_IPV6, type: IPV6_PKTINFO, data: Buffer.concat([four, device]) };
}
