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
  132: "SCTP",
  136: "UDP-Lite",
  262: "MPTCP",
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
  const family = option(fd, SO.DOMAIN);
  const protocol = option(fd, SO.PROTOCOL);
  const type = option(fd, SO.TYPE);
  const isInet = family === AF_INET || family === AF_INET6;
  const kind =
    (isInet ? PROTOCOLS[protocol] : undefined) ?? `${TYPES[type] ?? `type ${type}`}${protocol === 0 ? "" : ` (protocol ${protocol})`}`;
  const peer = isInet ? peerOf(fd) : undefined;
  const listening = option(fd, SO.ACCEPTCONN) !== 0 ? "listening at " : "";
  return `the ${FAMILIES[family] ?? `family ${family}`} ${kind} socket (${listening}${addressText(getsockname(fd))}${peer === undefined ? "" : `, connected to ${addressText(peer)}`})`;
}

function peerOf(fd: Fd): SocketAddress | undefined {
  try {
    return getpeername(fd);
  } catch {
    return undefined;
  }
}

/** Every socket that no other kind took. */
export const otherSockets: FileKind<never> = {
  name: "sockets/other",
  rows: [],
  type: "UND",
  field: "ext",
  matches: ({ link }) => link.startsWith("socket:["),
  dump(file, session) {
    session.refuse(
      new Refusal({
        code: "SOCKET_UNSUPPORTED",
        process: { pid: file.task.traced.pid, comm: file.task.comm },
        resource: `fd ${file.fd}, ${socketTitle(file.local)}`,
        because: "sockets of this kind are not carried",
        remedy: ["Let the program close the socket before the dump"],
      }),
    );
    return undefined;
  },
  open() {
    throw new Error("internal error: no image has such a socket");
  },
};
