/**
 * Sockets that are not carried: refused by name.
 */
import { AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK, type SocketAddress } from "../../linux/addresses.js";
import { Refusal } from "../../errors.js";
import { SO } from "../../linux/socket-options.js";
import {
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  getpeername,
  getsockname,
  getsockoptInt,
} from "../../linux/sockets.js";
import type { Fd, FileKind } from "../part.js";
import type { SocketKind } from "./asked.js";

const IPPROTO_SCTP = 132;
const IPPROTO_MPTCP = 262;
const FAMILIES: Readonly<Record<number, string>> = {
  [AF_UNIX]: "UNIX",
  [AF_INET]: "IPv4",
  [AF_INET6]: "IPv6",
  [AF_NETLINK]: "netlink",
  [AF_PACKET]: "packet",
  [AF_VSOCK]: "vsock",
};
const TYPES: Readonly<Record<number, string>> = {
  [SOCK_STREAM]: "stream",
  [SOCK_DGRAM]: "datagram",
  [SOCK_RAW]: "raw",
  [SOCK_SEQPACKET]: "seqpacket",
};
const PROTOCOLS: Readonly<Record<number, string>> = {
  1: "ICMP",
  6: "TCP",
  17: "UDP",
  58: "ICMPv6",
  [IPPROTO_SCTP]: "SCTP",
  136: "UDP-Lite",
  [IPPROTO_MPTCP]: "MPTCP",
};

const option = (fd: Fd, name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });

function addressText(address: SocketAddress | undefined): string {
  switch (address?.family) {
    case "inet":
      return `${[...address.address].join(".")}:${address.port}`;
    case "inet6":
      return `[${address.address.toString("hex").replace(/(....)(?=.)/g, "$1:")}]:${address.port}`;
    case "netlink":
      return `port ${address.portId}`;
    default:
      return "no address";
  }
}

/** How a socket is called in messages: family, type, protocol, addresses, as in `an IPv4 TCP socket (10.0.0.1:80)`. */
export function socketTitle(fd: Fd): string {
  const kind = { family: option(fd, SO.DOMAIN), type: option(fd, SO.TYPE), proto: option(fd, SO.PROTOCOL) };
  const isInet = kind.family === AF_INET || kind.family === AF_INET6;
  const peer = isInet ? peerOf(fd) : undefined;
  return titleOf(kind, { own: getsockname(fd), peer, isListening: option(fd, SO.ACCEPTCONN) !== 0 });
}

/** The same, when all of that is known. */
export function titleOf(
  { family, type, proto }: SocketKind,
  { own, peer, isListening }: { own: SocketAddress; peer: SocketAddress | undefined; isListening: boolean },
): string {
  const isInet = family === AF_INET || family === AF_INET6;
  const kind = (isInet ? PROTOCOLS[proto] : undefined) ?? `${TYPES[type] ?? `type ${type}`}${proto === 0 ? "" : ` (protocol ${proto})`}`;
  const listening = isListening ? "listening at " : "";
  return `the ${FAMILIES[family] ?? `family ${family}`} ${kind} socket (${listening}${addressText(own)}${peer === undefined ? "" : `, connected to ${addressText(peer)}`})`;
}

function peerOf(fd: Fd): SocketAddress | undefined {
  try {
    return getpeername(fd);
  } catch {
    return undefined;
  }
}

const CLOSE = "Let the program close the socket before the dump";

/** Why a socket is not carried, and what helps. */
function reasonOf(fd: Fd): { because: string; remedy: [string, ...string[]] } {
  const [family, protocol] = [option(fd, SO.DOMAIN), option(fd, SO.PROTOCOL)];
  if (family === AF_VSOCK)
    return {
      because: "sockets between virtual machines (vsock) have no state that could be read",
      remedy: ["Let the program use TCP between the machines", CLOSE],
    };
  if (protocol === IPPROTO_SCTP)
    return { because: "SCTP has no way to read or set what an association consists of", remedy: ["Let the program use TCP", CLOSE] };
  return { because: "sockets of this kind are not carried", remedy: [CLOSE] };
}

/** Every socket that no other kind took. */
export const otherSockets: FileKind<never> = {
  name: "sockets/other",
  rows: [],
  type: "UND",
  field: "ext",
  isPathless: true,
  matches: ({ link }) => link.startsWith("socket:["),
  dump(file, session) {
    session.refuse(
      new Refusal({
        code: "SOCKET_UNSUPPORTED",
        process: { pid: file.task.traced.pid, comm: file.task.comm },
        resource: `fd ${file.fd}, ${socketTitle(file.local)}`,
        ...reasonOf(file.local),
      }),
    );
    return undefined;
  },
  open() {
    throw new Error("internal error: no image has such a socket");
  },
};
