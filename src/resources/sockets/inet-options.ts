/**
 * Options of the IP, IPv6, TCP and UDP levels, ip(7), ipv6(7), tcp(7), udp(7).
 *
 * Some have a field in CRIU's messages. All others are kept by their numbers, where they differ from those of a fresh socket.
 */
import { AF_INET6 } from "../../linux/addresses.js";
import { close } from "../../linux/files.js";
import { SOCK_CLOEXEC, SOCK_STREAM, getsockopt, getsockoptInt, setsockopt, setsockoptInt, socket } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import type { InetOption, InetSkEntry, IpOptsEntry } from "./inet.schema.js";
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

/** RECVOPTS, RETOPTS, RECVERR, RECVTTL, RECVTOS, MTU_DISCOVER, TRANSPARENT, RECVORIGDSTADDR, MINTTL, BIND_ADDRESS_NO_PORT. */
const MORE_IP = [6, 7, 11, 12, 13, 10, 19, 20, 21, 24].map(ip);
/** MULTICAST_TTL, MULTICAST_LOOP, MULTICAST_ALL. */
const MULTICAST_IP = [33, 34, 49].map(ip);
/** UNICAST_HOPS, MTU_DISCOVER, RECVERR, RECVHOPLIMIT, RECVTCLASS, TCLASS, TRANSPARENT, DONTFRAG, AUTOFLOWLABEL, MINHOPCOUNT. */
const MORE_IP6 = [IPV6_UNICAST_HOPS, 23, 25, 51, 66, IPV6_TCLASS, 75, 62, 70, 73].map(ip6);
/** MULTICAST_HOPS, MULTICAST_LOOP. */
const MULTICAST_IP6 = [18, 19].map(ip6);
/** SYNCNT, LINGER2, DEFER_ACCEPT, WINDOW_CLAMP, USER_TIMEOUT, NOTSENT_LOWAT, THIN_LINEAR_TIMEOUTS, FASTOPEN. */
const MORE_TCP = [7, 8, 9, 10, 18, 25, 16, 23].map(tcp);
/** CORK, SEGMENT, GRO. */
const MORE_UDP = [1, 103, 104].map((name) => ({ level: IPPROTO_UDP, name }));
/** SEND_CSCOV, RECV_CSCOV. */
const MORE_UDPLITE = [10, 11].map((name) => ({ level: IPPROTO_UDPLITE, name }));
const TCP_CONGESTION = tcp(13);
const CONGESTION_BYTES = 16;

/** The value, or undefined where the socket does not know the option. */
function tryGet(fd: Fd, option: Option): number | undefined {
  try {
    return getsockoptInt(fd, option);
  } catch {
    return undefined;
  }
}

function ownOptions({ family, type, proto }: InetKind): Option[] {
  const is6 = family === AF_INET6;
  const multicast = is6 ? [...MULTICAST_IP, ...MULTICAST_IP6] : MULTICAST_IP;
  const net = [...MORE_IP, ...(is6 ? MORE_IP6 : []), ...(type === SOCK_STREAM ? [] : multicast)];
  const transport = { [IPPROTO_TCP]: MORE_TCP, [IPPROTO_UDP]: MORE_UDP, [IPPROTO_UDPLITE]: MORE_UDPLITE }[proto] ?? [];
  return [...net, ...transport];
}

export interface InetKind {
  readonly family: number;
  readonly type: number;
  readonly proto: number;
}

/** Values of a socket nobody has touched, by kind. */
const fresh = new Map<string, Map<string, number | undefined>>();
const keyOf = ({ level, name }: Option) => `${level}/${name}`;

function freshValues(kind: InetKind): Map<string, number | undefined> {
  const key = `${kind.family}/${kind.type}/${kind.proto}`;
  let values = fresh.get(key);
  if (values === undefined) {
    const fd = socket({ family: kind.family, type: kind.type | SOCK_CLOEXEC, protocol: kind.proto });
    values = new Map(ownOptions(kind).map((o) => [keyOf(o), tryGet(fd, o)]));
    close(fd);
    fresh.set(key, values);
  }
  return values;
}

/** What the fields of CRIU's messages can say, and the rest. */
export function readInetOptions(fd: Fd, kind: InetKind): Pick<InetSkEntry, "ip_opts" | "tcp_opts" | "v6only" | "more"> {
  const is6 = kind.family === AF_INET6;
  const ip_opts: IpOptsEntry = {
    freebind: tryGet(fd, is6 ? ip6(IPV6_FREEBIND) : ip(IP_FREEBIND)) === 1,
    pktinfo: tryGet(fd, is6 ? ip6(IPV6_RECVPKTINFO) : ip(IP_PKTINFO)) === 1,
    tos: tryGet(fd, ip(IP_TOS)) ?? 0,
    ttl: tryGet(fd, ip(IP_TTL)) ?? 64,
  };
  const before = freshValues(kind);
  const more: InetOption[] = ownOptions(kind).flatMap((o) => {
    const value = tryGet(fd, o);
    return value === undefined || value === before.get(keyOf(o)) ? [] : [{ ...o, value }];
  });
  return {
    ip_opts,
    more,
    ...(is6 ? { v6only: tryGet(fd, ip6(IPV6_V6ONLY)) === 1 } : {}),
    ...(kind.proto === IPPROTO_TCP && kind.type === SOCK_STREAM ? { tcp_opts: readTcp(fd) } : {}),
  };
}

function readTcp(fd: Fd): TcpOptsEntry {
  const get = (name: number) => getsockoptInt(fd, tcp(name));
  const congestion = getsockopt(fd, TCP_CONGESTION, CONGESTION_BYTES).toString("latin1").replace(/\0.*$/s, "");
  return {
    cork: get(TCP_CORK) !== 0,
    nodelay: get(TCP_NODELAY) !== 0,
    keepcnt: get(TCP_KEEPCNT),
    keepidle: get(TCP_KEEPIDLE),
    keepintvl: get(TCP_KEEPINTVL),
    congestion,
  };
}

/** What must be set before bind(2). */
export function setEarlyOptions(fd: Fd, entry: InetSkEntry): void {
  const is6 = entry.family === AF_INET6;
  if (is6 && entry.v6only !== undefined) setsockoptInt(fd, ip6(IPV6_V6ONLY), Number(entry.v6only));
  if (entry.ip_opts?.freebind === true) setsockoptInt(fd, is6 ? ip6(IPV6_FREEBIND) : ip(IP_FREEBIND), 1);
  for (const { level, name, value } of entry.more) setsockoptInt(fd, { level, name }, value);
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
  if (ip_opts?.pktinfo === true) setsockoptInt(fd, is6 ? ip6(IPV6_RECVPKTINFO) : ip(IP_PKTINFO), 1);
  if (ip_opts?.tos !== undefined && ip_opts.tos !== tryGet(fd, ip(IP_TOS))) setsockoptInt(fd, ip(IP_TOS), ip_opts.tos);
  if (ip_opts?.ttl !== undefined && ip_opts.ttl !== 0 && ip_opts.ttl !== tryGet(fd, ip(IP_TTL))) setsockoptInt(fd, ip(IP_TTL), ip_opts.ttl);
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
  if (tcp_opts.congestion !== undefined) setsockopt(fd, TCP_CONGESTION, Buffer.from(tcp_opts.congestion));
}
