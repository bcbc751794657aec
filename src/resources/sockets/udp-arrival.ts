/**
 * Where and how a datagram came in: what a program is told that asked for it (IP_PKTINFO, IP_TTL, IP_TOS, and those of IPv6), as servers
 * with many addresses do to answer from the right one.
 *
 * A datagram that waited comes in again at the same device, with the same addresses (`linux/packet-entry.ts`); one that came over the
 * loopback device is sent again to the address it had.
 *
 * Read from   control messages of recvmsg(2) with MSG_PEEK, which are there if the program asked for them
 * Not kept    of datagrams that one packet does not hold (3 KiB), of addresses that are not this machine's (IP_TRANSPARENT), and where
 *             bpf(2) is not allowed: those come over the loopback device
 */
import { closeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { AF_INET, AF_INET6, type SocketAddress } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { hardwareAddress, interfaceIndex, interfaceName, isInterfaceUp, isLoopback } from "../../linux/packet.js";
import { PacketEntry } from "../../linux/packet-entry.js";
import { datagram, packetBytes } from "../../linux/raw-packet.js";
import {
  type ControlMessage,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
  bind,
  connect,
  getsockopt,
  setsockoptInt,
  socket,
} from "../../linux/sockets.js";
import type { Fd, RestoreSession } from "../part.js";
import { replaced, unmapped } from "./inet-address.js";
import { IPPROTO_IP, IPPROTO_IPV6 } from "./inet-options.js";
import type { InetSkEntry } from "./inet.schema.js";
import { type SavedMessage, savedQueues } from "./queue.js";
import type { FloeSkArrival } from "./queue.schema.js";

/** uapi/linux/in.h, in6.h; struct in_pktinfo is number, own address, address it was sent to; struct in6_pktinfo address, number. */
const IP_TOS = 1;
const IP_TTL = 2;
const IP_PKTINFO = 8;
const IPV6_2292PKTINFO = 2;
const IPV6_2292HOPLIMIT = 8;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const IPV6_HOPLIMIT = 52;
const IPV6_TCLASS = 67;

/** What the control messages of a datagram say; undefined: not where it came in. */
export function arrivalOf(control: readonly ControlMessage[], fd: Fd): FloeSkArrival | undefined {
  const of = (level: number, ...types: number[]) => control.find((c) => c.level === level && types.includes(c.type))?.data;
  const [four, six] = [of(IPPROTO_IP, IP_PKTINFO), of(IPPROTO_IPV6, IPV6_PKTINFO, IPV6_2292PKTINFO)];
  const to = six?.subarray(0, 16) ?? four?.subarray(8, 12);
  const device = interfaceName(fd, six?.readUInt32LE(16) ?? four?.readUInt32LE(0) ?? 0);
  if (to === undefined || device === undefined) return undefined;
  const hops = (of(IPPROTO_IP, IP_TTL) ?? of(IPPROTO_IPV6, IPV6_HOPLIMIT, IPV6_2292HOPLIMIT))?.readUInt32LE(0);
  const traffic_class = of(IPPROTO_IPV6, IPV6_TCLASS)?.readUInt32LE(0) ?? of(IPPROTO_IP, IP_TOS)?.readUInt8(0);
  return {
    to: Buffer.from(to),
    device,
    ...(hops === undefined ? {} : { hops }),
    ...(traffic_class === undefined ? {} : { traffic_class }),
  };
}

/** Has the kernel note where datagrams come in; off again afterwards: the options of the socket have not been set yet. */
export function noteArrivals(fd: Fd, family: number, isOn: boolean): void {
  setsockoptInt(fd, { level: IPPROTO_IP, name: IP_PKTINFO }, Number(isOn));
  if (family === AF_INET6) setsockoptInt(fd, { level: IPPROTO_IPV6, name: IPV6_RECVPKTINFO }, Number(isOn));
}

/** The address that a datagram was sent to, if that is known. */
export function sentTo({ entry }: SavedMessage, session: RestoreSession): Buffer | undefined {
  if (entry.arrival === undefined) return undefined;
  return replaced(unmapped(Buffer.from(entry.arrival.to)), session.options.mapIp);
}

/** Whether it is the address of a group, or the one for all of a network: connect(2) to that takes SO_BROADCAST. */
export function isForMany(address: Buffer): boolean {
  if (address.length === 16) return address[0] === 0xff;
  if ((address[0] ?? 0) >= 224) return true;
  if (address.every((byte) => byte === 0)) return false;
  return failure(AF_INET, (fd) => connect(fd, { family: "inet", address, port: 9 })) === ERRNO.EACCES;
}

/** The error of what is tried with a socket; undefined: there is none. */
function failure(family: number, attempt: (fd: Fd) => void): number | undefined {
  const fd = socket({ family, type: SOCK_DGRAM | SOCK_CLOEXEC });
  try {
    attempt(fd);
    return undefined;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return error.errno;
  } finally {
    closeSync(fd);
  }
}

/** Whether a datagram that waits at a socket was sent to more than this machine. */
export function hasHeardMany(entry: InetSkEntry, session: RestoreSession): boolean {
  return (savedQueues(session).get(entry.id) ?? []).some((message) => {
    const to = sentTo(message, session);
    return to !== undefined && isForMany(to);
  });
}

const entries = new WeakMap<RestoreSession, PacketEntry | undefined>();

function entryOf(session: RestoreSession): PacketEntry | undefined {
  if (!entries.has(session)) entries.set(session, PacketEntry.open());
  return entries.get(session);
}

/** Lets go of what was needed for all queues. */
export function closeEntry(session: RestoreSession): void {
  entries.get(session)?.close();
  entries.delete(session);
}

/** Has a datagram come in at its device, from `from`, at `port` of the address that it was sent to. False: it does not arrive there. */
export function enterAgain(
  message: SavedMessage,
  { fd, from, port, entry, session }: { fd: Fd; from: SocketAddress; port: number; entry: InetSkEntry; session: RestoreSession },
): boolean {
  const { arrival } = message.entry;
  const to = sentTo(message, session);
  if (arrival === undefined || to === undefined || (from.family !== "inet" && from.family !== "inet6")) return false;
  const source = unmapped(from.address);
  const ifindex = interfaceIndex(fd, arrival.device);
  if (source.length !== to.length || ifindex === undefined || !isInterfaceUp(fd, arrival.device) || isLoopback(fd, arrival.device))
    return false;
  if (!isForMany(to) && !isOurs(to, ifindex)) return false;
  const packet = packetBytes(
    datagram(
      {
        from: { address: source, port: from.port },
        to: { address: to, port },
        protocol: entry.proto,
        hops: arrival.hops,
        trafficClass: arrival.traffic_class,
      },
      message.data,
    ),
  );
  const before = memoryOf(fd);
  if (entryOf(session)?.enter(packet, { ifindex, to: hardwareTo(fd, to, arrival.device) }) !== true) return false;
  return hasArrived(fd, before);
}

/** Whether an address is this machine's: a packet to any other might be sent on. */
function isOurs(address: Buffer, ifindex: number): boolean {
  if (address.length === 4) return failure(AF_INET, (fd) => bind(fd, { family: "inet", address, port: 0 })) === undefined;
  const isOfLink = (address.readUInt16BE(0) & 0xffc0) === 0xfe80;
  const there: SocketAddress = { family: "inet6", address, port: 0, flowInfo: 0, scopeId: isOfLink ? ifindex : 0 };
  return failure(AF_INET6, (fd) => bind(fd, there)) === undefined;
}

/** The hardware address of a packet: the device's, or one that stands for many (RFC 1112, RFC 2464). */
function hardwareTo(fd: Fd, to: Buffer, device: string): Uint8Array {
  if (!isForMany(to)) return hardwareAddress(fd, device) ?? Buffer.alloc(6);
  if (to.length === 16) return Buffer.concat([Buffer.from([0x33, 0x33]), to.subarray(12)]);
  const [first = 0, second = 0, third = 0, fourth = 0] = to;
  return first >= 224 && first < 240 ? Buffer.from([1, 0, 0x5e, second & 0x7f, third, fourth]) : Buffer.alloc(6, 0xff);
}

/** uapi/asm-generic/socket.h */
const SO_MEMINFO = 55;

/** Bytes that the queue of a socket takes up: the first word of SO_MEMINFO. */
const memoryOf = (fd: Fd): number => getsockopt(fd, { level: SOL_SOCKET, name: SO_MEMINFO }, 4).readUInt32LE(0);

const ARRIVAL_MS = 50;
const nap = new Int32Array(new SharedArrayBuffer(4));

/** Packets arrive at once, or a little later where another processor takes them on. */
function hasArrived(fd: Fd, before: number): boolean {
  for (let waitedMs = 0; memoryOf(fd) <= before; waitedMs++) {
    if (waitedMs === ARRIVAL_MS) return false;
    Atomics.wait(nap, 0, 0, 1);
  }
  return true;
}
