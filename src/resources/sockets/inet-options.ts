/**
 * Options of the IP, IPv6, TCP and UDP levels, ip(7), ipv6(7), tcp(7), udp(7).
 *
 * Some have a field in CRIU's messages. All others are kept by their numbers, where they differ from those of a fresh socket.
 */
import { AF_INET6 } from "../../linux/addresses.js";
import { SOCK_DGRAM, SOCK_STREAM, getsockopt, getsockoptInt, setsockopt, setsockoptInt } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import { type Asked, type SocketKind, askedDirectly } from "./asked.js";
import type { InetSkEntry, IpOptsEntry } from "./inet.schema.js";
import { changedBytes, changedNumbers, setBytes, setNumbers, tryGet } from "./own-options.js";
import { isRaw, readRawOptions, setRawOptions } from "./raw.js";
import type { TcpOptsEntry } from "./tcp.schema.js";

export const IPPROTO_IP = 0;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_UDPLITE = 136;

/** uapi/linux/in.h, in6.h. */
const IP_TOS = 1;
const IP_TTL = 2;
const IP_PKTINFO = 8;
const IP_FREEBIND = 15;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const IPV6_FREEBIND = 78;
const IPV6_TCLASS = 67;
const IPV6_UNICAST_HOPS = 16;

/** uapi/linux/tcp.h. */
const TCP_NODELAY = 1;
const TCP_CORK = 3;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;

interface Option {
  readonly level: number;
  readonly name: number;
}
const ip = (name: number): Option => ({ level: IPPROTO_IP, name });
const ip6 = (name: number): Option => ({ level: IPPROTO_IPV6, name });
const tcp = (name: number): Option => ({ level: IPPROTO_TCP, name });

/**
 * MULTICAST_IF, RECVOPTS, RETOPTS, RECVERR, RECVTTL, RECVTOS, MTU_DISCOVER, PASSSEC, TRANSPARENT, RECVORIGDSTADDR, MINTTL, CHECKSUM,
 * BIND_ADDRESS_NO_PORT, RECVFRAGSIZE, RECVERR_RFC4884, UNICAST_IF, LOCAL_PORT_RANGE, ROUTER_ALERT.
 */
const MORE_IP = [6, 7, 11, 12, 13, 10, 18, 19, 20, 21, 23, 24, 25, 26, 50, 51, 5].map(ip);
/** MULTICAST_IF, MULTICAST_TTL, MULTICAST_LOOP, MULTICAST_ALL. */
const MULTICAST_IP = [32, 33, 34, 49].map(ip);
/**
 * UNICAST_HOPS, MTU_DISCOVER, RECVERR, RECVHOPLIMIT, RECVTCLASS, TCLASS, TRANSPARENT, DONTFRAG, AUTOFLOWLABEL, MINHOPCOUNT; RECVHOPOPTS,
 * RECVRTHDR, RECVDSTOPTS, RECVPATHMTU, ADDR_PREFERENCES, ORIGDSTADDR, UNICAST_IF, RECVFRAGSIZE, FLOWINFO, FLOWINFO_SEND, ROUTER_ALERT,
 * ROUTER_ALERT_ISOLATE, RECVERR_RFC4884; 2292PKTINFO, 2292HOPOPTS, 2292DSTOPTS, 2292RTHDR, 2292HOPLIMIT.
 */
const MORE_IP6 = [
  ...[IPV6_UNICAST_HOPS, 23, 25, 51, 66, IPV6_TCLASS, 75, 62, 70, 73],
  ...[53, 56, 58, 60, 72, 74, 76, 77, 11, 33, 22, 30, 31],
  ...[2, 3, 4, 5, 8],
].map(ip6);
/** MULTICAST_IF, MULTICAST_HOPS, MULTICAST_LOOP, MULTICAST_ALL. */
const MULTICAST_IP6 = [17, 18, 19, 29].map(ip6);
/**
 * SYNCNT, LINGER2, DEFER_ACCEPT, WINDOW_CLAMP, USER_TIMEOUT, NOTSENT_LOWAT, THIN_LINEAR_TIMEOUTS, FASTOPEN; SAVE_SYN, FASTOPEN_CONNECT,
 * FASTOPEN_NO_COOKIE, INQ, TX_DELAY, RTO_MAX_MS, RTO_MIN_US, DELACK_MAX_US.
 */
const MORE_TCP = [7, 8, 9, 10, 18, 25, 16, 23, 27, 30, 34, 36, 37, 44, 45, 46].map(tcp);
/** MAXSEG: of a connection it is what both ends agreed on. */
const UNCONNECTED_TCP = [2].map(tcp);
/** QUICKACK. */
const LATE_TCP = [12].map(tcp);
/** CORK, ENCAP, NO_CHECK6_TX, NO_CHECK6_RX, SEGMENT, GRO. */
const MORE_UDP = [1, 100, 101, 102, 103, 104].map((name) => ({ level: IPPROTO_UDP, name }));
/** CORK, NO_CHECK6_TX, NO_CHECK6_RX, SEND_CSCOV, RECV_CSCOV. */
const MORE_UDPLITE = [1, 101, 102, 10, 11].map((name) => ({ level: IPPROTO_UDPLITE, name }));
/** OPTIONS. */
const BYTES_IP = [4].map(ip);
/** HOPOPTS, RTHDRDSTOPTS, RTHDR, DSTOPTS. */
const BYTES_IP6 = [54, 55, 57, 59].map(ip6);
/** FASTOPEN_KEY. */
const BYTES_TCP = [33].map(tcp);
const TCP_CONGESTION = tcp(13);
const CONGESTION_BYTES = 16;

const ownOfKinds = new Map<string, readonly Option[]>();

function ownOptions(kind: InetKind, isFresh: boolean): readonly Option[] {
  const key = `${kind.family}/${kind.type}/${kind.proto}/${isFresh}`;
  const options = ownOfKinds.get(key) ?? ownOfKind(kind, isFresh);
  ownOfKinds.set(key, options);
  return options;
}

function ownOfKind({ family, type, proto }: InetKind, isFresh: boolean): Option[] {
  const is6 = family === AF_INET6;
  const multicast = is6 ? [...MULTICAST_IP, ...MULTICAST_IP6] : MULTICAST_IP;
  const net = [...MORE_IP, ...(is6 ? MORE_IP6 : []), ...(type === SOCK_STREAM ? [] : multicast)];
  if (type === SOCK_STREAM) return [...net, ...MORE_TCP, ...(isFresh ? UNCONNECTED_TCP : [])];
  const transport = type === SOCK_DGRAM ? { [IPPROTO_UDP]: MORE_UDP, [IPPROTO_UDPLITE]: MORE_UDPLITE }[proto] : undefined;
  return [...net, ...(transport ?? [])];
}

const ownBytes = ({ family, type }: InetKind): Option[] => [
  ...BYTES_IP,
  ...(family === AF_INET6 ? BYTES_IP6 : []),
  ...(type === SOCK_STREAM ? BYTES_TCP : []),
];

export type InetKind = SocketKind;

type OptionFields = Pick<InetSkEntry, "ip_opts" | "tcp_opts" | "v6only" | "more" | "more_bytes" | "late">;

/** What the fields of CRIU's messages can say, and the rest. `isFresh`: it never had a connection. */
export function readInetOptions(
  fd: Fd,
  kind: InetKind,
  { isFresh, asked = askedDirectly(fd) }: { isFresh: boolean; asked?: Asked },
): OptionFields {
  const is6 = kind.family === AF_INET6;
  const ip_opts: IpOptsEntry = {
    freebind: asked.int(is6 ? ip6(IPV6_FREEBIND) : ip(IP_FREEBIND)) === 1,
    pktinfo: asked.int(is6 ? ip6(IPV6_RECVPKTINFO) : ip(IP_PKTINFO)) === 1,
    tos: asked.int(ip(IP_TOS)) ?? 0,
    ttl: asked.int(ip(IP_TTL)) ?? 64,
    ...(isRaw(kind) ? { raw: readRawOptions(fd, kind) } : {}),
  };
  return {
    ip_opts,
    more: changedNumbers(asked, kind, ownOptions(kind, isFresh)),
    more_bytes: changedBytes(asked, kind, ownBytes(kind)),
    late: kind.type === SOCK_STREAM ? changedNumbers(asked, kind, LATE_TCP) : [],
    ...(is6 ? { v6only: asked.int(ip6(IPV6_V6ONLY)) === 1 } : {}),
    ...(kind.type === SOCK_STREAM ? { tcp_opts: kind.proto === IPPROTO_TCP ? readTcp(fd, asked) : readMptcp(asked) } : {}),
  };
}

function readTcp(fd: Fd, asked: Asked): TcpOptsEntry {
  const get = (name: number) => asked.int(tcp(name)) ?? getsockoptInt(fd, tcp(name));
  const congestion = asked.bytes(TCP_CONGESTION, CONGESTION_BYTES) ?? getsockopt(fd, TCP_CONGESTION, CONGESTION_BYTES);
  return {
    cork: get(TCP_CORK) !== 0,
    nodelay: get(TCP_NODELAY) !== 0,
    keepcnt: get(TCP_KEEPCNT),
    keepidle: get(TCP_KEEPIDLE),
    keepintvl: get(TCP_KEEPINTVL),
    congestion: congestion.toString("latin1").replace(/\0.*$/s, ""),
  };
}

/** Multipath TCP knows some of them, which differ with the kernel. */
function readMptcp(asked: Asked): TcpOptsEntry {
  const get = (name: number) => asked.int(tcp(name));
  const [cork, nodelay] = [get(TCP_CORK), get(TCP_NODELAY)];
  const [keepcnt, keepidle, keepintvl] = [get(TCP_KEEPCNT), get(TCP_KEEPIDLE), get(TCP_KEEPINTVL)];
  return {
    ...(cork === undefined ? {} : { cork: cork !== 0 }),
    ...(nodelay === undefined ? {} : { nodelay: nodelay !== 0 }),
    ...(keepcnt === undefined ? {} : { keepcnt }),
    ...(keepidle === undefined ? {} : { keepidle }),
    ...(keepintvl === undefined ? {} : { keepintvl }),
  };
}

/** What must be set before bind(2). */
export function setEarlyOptions(fd: Fd, entry: InetSkEntry): void {
  const is6 = entry.family === AF_INET6;
  // A raw socket has its number, with which this is settled, from the beginning.
  if (is6 && entry.v6only !== undefined && !isRaw(entry)) setsockoptInt(fd, ip6(IPV6_V6ONLY), Number(entry.v6only));
  if (entry.ip_opts?.freebind === true) setsockoptInt(fd, is6 ? ip6(IPV6_FREEBIND) : ip(IP_FREEBIND), 1);
  setNumbers(fd, entry.more);
  setBytes(fd, entry.more_bytes);
}

const IP_TRANSPARENT = 19;
const IPV6_TRANSPARENT = 75;

/** Whether a socket may have addresses that no interface has. */
export function canBindAnywhere({ ip_opts, more }: InetSkEntry): boolean {
  return ip_opts?.freebind === true || more.some(({ name }) => name === IP_TRANSPARENT || name === IPV6_TRANSPARENT);
}

export function setAnywhere(fd: Fd, family: number): void {
  setsockoptInt(fd, family === AF_INET6 ? ip6(IPV6_FREEBIND) : ip(IP_FREEBIND), 1);
}

/** Everything else. */
export function setInetOptions(fd: Fd, entry: InetSkEntry): void {
  const is6 = entry.family === AF_INET6;
  const { ip_opts, tcp_opts } = entry;
  if (ip_opts?.raw !== undefined && isRaw(entry)) setRawOptions(fd, entry, ip_opts.raw);
  if (ip_opts?.pktinfo === true) setsockoptInt(fd, is6 ? ip6(IPV6_RECVPKTINFO) : ip(IP_PKTINFO), 1);
  // Raw sockets of IPv6 know nothing of IPv4.
  const [tos, ttl] = [tryGet(fd, ip(IP_TOS)), tryGet(fd, ip(IP_TTL))];
  if (ip_opts?.tos !== undefined && tos !== undefined && ip_opts.tos !== tos) setsockoptInt(fd, ip(IP_TOS), ip_opts.tos);
  if (ip_opts?.ttl !== undefined && ip_opts.ttl !== 0 && ttl !== undefined && ip_opts.ttl !== ttl)
    setsockoptInt(fd, ip(IP_TTL), ip_opts.ttl);
  if (tcp_opts === undefined) return;
  for (const [name, value] of [
    [TCP_KEEPCNT, tcp_opts.keepcnt],
    [TCP_KEEPIDLE, tcp_opts.keepidle],
    [TCP_KEEPINTVL, tcp_opts.keepintvl],
    [TCP_NODELAY, tcp_opts.nodelay],
    [TCP_CORK, tcp_opts.cork],
  ] as const) {
    if (value !== undefined && Number(value) !== tryGet(fd, tcp(name))) setsockoptInt(fd, tcp(name), Number(value));
  }
  setNumbers(fd, entry.late);
  if (tcp_opts.congestion !== undefined) setsockopt(fd, TCP_CONGESTION, Buffer.from(tcp_opts.congestion));
}
