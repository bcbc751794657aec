/**
 * Raw and ping sockets (SOCK_RAW, SOCK_DGRAM with ICMP) of IPv4 and IPv6: protocol, addresses, and what is theirs alone.
 *
 * Read from   getsockopt(2); whom they are connected to from /proc/PID/net/raw, raw6, icmp, icmp6: their ports are mostly 0,
 *             and getpeername(2) then knows of no peer
 * Made with   socket(2), bind(2), connect(2), setsockopt(2); a ping socket in a group that net.ipv4.ping_group_range allows
 *
 * Packets that wait are lost, as the network may lose any: only the first can be looked at, and one that is sent again
 * reaches every raw socket of its protocol, and the kernel.
 */
import type { SocketAddress } from "../../linux/addresses.js";
import { AF_INET, AF_INET6 } from "../../linux/addresses.js";
import type { NetSocket } from "../../linux/proc/net-sockets.js";
import { readNetSockets, readSysctlList } from "../../linux/proc/read.js";
import {
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_RAW,
  getsockopt,
  getsockoptInt,
  setsockopt,
  setsockoptInt,
  socket,
  socketInGroup,
} from "../../linux/sockets.js";
import type { Fd, OpenFile } from "../part.js";
import type { InetKind } from "./inet-options.js";
import type { IpOptsRawEntry } from "./inet.schema.js";

export const IPPROTO_ICMP = 1;
export const IPPROTO_ICMPV6 = 58;

/** uapi/linux/in.h, in6.h, icmp.h, icmpv6.h, and linux/socket.h. */
const IP_HDRINCL = { level: 0, name: 3 };
const IP_NODEFRAG = { level: 0, name: 22 };
const IPV6_HDRINCL = { level: 41, name: 36 };
const IPV6_CHECKSUM = { level: 255, name: 7 };
const ICMP_FILTER = { level: 255, name: 1 };
const ICMPV6_FILTER = { level: IPPROTO_ICMPV6, name: 1 };
const ICMP_FILTER_BYTES = 4;
const ICMPV6_FILTER_BYTES = 32;

export const isRaw = ({ type }: Pick<InetKind, "type">) => type === SOCK_RAW;

/** A socket for echo requests that needs no rights. */
export function isPing({ family, type, proto }: InetKind): boolean {
  return type === SOCK_DGRAM && proto === (family === AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/** What the kernel lists of a socket. */
export function listed({ task, stat }: Pick<OpenFile, "task" | "stat">, kind: InetKind): NetSocket | undefined {
  const name = isRaw(kind) ? ("raw" as const) : ("icmp" as const);
  return readNetSockets(task.traced.pid, kind.family === AF_INET6 ? `${name}6` : name).get(Number(stat.ino));
}

/** Whom it is connected to. */
export function peerOfListed({ peer, peerPort }: NetSocket, own: SocketAddress): SocketAddress | undefined {
  if (peer.every((byte) => byte === 0)) return undefined;
  if (peer.length === 4) return { family: "inet", address: peer, port: peerPort };
  return { family: "inet6", address: peer, port: peerPort, flowInfo: 0, scopeId: own.family === "inet6" ? own.scopeId : 0 };
}

const filterOf = ({ family, proto }: InetKind) => {
  if (family === AF_INET && proto === IPPROTO_ICMP) return { option: ICMP_FILTER, bytes: ICMP_FILTER_BYTES };
  if (family === AF_INET6 && proto === IPPROTO_ICMPV6) return { option: ICMPV6_FILTER, bytes: ICMPV6_FILTER_BYTES };
  return undefined;
};

/** The options of raw sockets. */
export function readRawOptions(fd: Fd, kind: InetKind): Required<Pick<IpOptsRawEntry, "hdrincl" | "icmpv_filter">> & IpOptsRawEntry {
  const is6 = kind.family === AF_INET6;
  const filter = filterOf(kind);
  const words = filter === undefined ? Buffer.alloc(0) : getsockopt(fd, filter.option, filter.bytes);
  return {
    hdrincl: getsockoptInt(fd, is6 ? IPV6_HDRINCL : IP_HDRINCL) !== 0,
    ...(is6 ? readChecksum(fd) : { nodefrag: getsockoptInt(fd, IP_NODEFRAG) !== 0 }),
    icmpv_filter: Array.from({ length: words.length / 4 }, (_, i) => words.readUInt32LE(i * 4)),
  };
}

/** Where in its packets the kernel computes a checksum. */
function readChecksum(fd: Fd): IpOptsRawEntry {
  const at = getsockoptInt(fd, IPV6_CHECKSUM);
  return at < 0 ? { icmpv_filter: [], checksum: false } : { icmpv_filter: [], checksum: true, checksum_at: at };
}

export function setRawOptions(fd: Fd, kind: InetKind, raw: IpOptsRawEntry): void {
  const is6 = kind.family === AF_INET6;
  if (raw.hdrincl !== undefined) setsockoptInt(fd, is6 ? IPV6_HDRINCL : IP_HDRINCL, Number(raw.hdrincl));
  if (raw.nodefrag === true) setsockoptInt(fd, IP_NODEFRAG, 1);
  // ICMPv6 has its checksum where it has to be, and takes no other.
  if (raw.checksum_at !== undefined && getsockoptInt(fd, IPV6_CHECKSUM) !== raw.checksum_at)
    setsockoptInt(fd, IPV6_CHECKSUM, raw.checksum_at);
  const filter = filterOf(kind);
  if (filter === undefined || raw.icmpv_filter.length * 4 !== filter.bytes) return;
  const words = Buffer.alloc(filter.bytes);
  raw.icmpv_filter.forEach((word, i) => words.writeUInt32LE(word, i * 4));
  setsockopt(fd, filter.option, words);
}

/** A socket of any kind; the groups that may have ping sockets need not be ours. */
export function socketOf({ family, type, proto }: InetKind): Fd {
  const kind = { family, type: type | SOCK_CLOEXEC, protocol: proto };
  if (!isPing({ family, type, proto })) return socket(kind);
  const [first = 1, last = 0] = readSysctlList("net/ipv4/ping_group_range") ?? [];
  return first <= last ? socketInGroup(kind, first) : socket(kind);
}

/** Whether any group at all may have ping sockets here. */
export function allowsPing(): boolean {
  const [first = 1, last = 0] = readSysctlList("net/ipv4/ping_group_range") ?? [];
  return first <= last;
}
