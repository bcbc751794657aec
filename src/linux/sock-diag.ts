/**
 * sock_diag(7): what the kernel knows of UNIX, IPv4 and IPv6 sockets, asked by netlink.
 *
 * Source: uapi/linux/sock_diag.h, uapi/linux/unix_diag.h, uapi/linux/inet_diag.h.
 */
import { KernelError } from "../errors.js";
import { AF_INET, AF_INET6, AF_UNIX } from "./addresses.js";
import { ERRNO } from "./errno.js";
import { close } from "./files.js";
import { NLM_F_DUMP, NLM_F_REQUEST, encodeMessage, exchange, openNetlink } from "./netlink.js";

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const UNIX_DIAG_REQ_BYTES = 24;
const UNIX_DIAG_MSG_BYTES = 16;
/** UDIAG_SHOW_NAME, VFS, PEER, ICONS, RQLEN. */
const SHOW = 0x1f;

const UNIX_DIAG_NAME = 0;
const UNIX_DIAG_VFS = 1;
const UNIX_DIAG_PEER = 2;
const UNIX_DIAG_ICONS = 3;
const UNIX_DIAG_RQLEN = 4;
const UNIX_DIAG_SHUTDOWN = 6;

/** States of sockets, net/tcp_states.h; UNIX sockets use three of them. */
export const SOCKET_STATE = { ESTABLISHED: 1, CLOSE: 7, LISTEN: 10 } as const;

/** A UNIX socket as sock_diag tells of it. */
export interface UnixSocketInfo {
  readonly inode: number;
  /** SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET. */
  readonly type: number;
  readonly state: number;
  /** As in sun_path: a path with its NUL, or a NUL and an abstract name. Undefined: not bound. */
  readonly name: Buffer | undefined;
  /** Of the node in the file system. */
  readonly node: { readonly inode: number; readonly device: number } | undefined;
  /** Inode of the peer; 0: the peer has been closed or was not accepted yet; undefined: none. */
  readonly peer: number | undefined;
  /** Inodes of clients that wait to be accepted; 0 for one that has been closed. */
  readonly pending: readonly number[];
  /** Of a listening socket: connections waiting, and the limit. Else bytes to be read, and memory of what was sent. */
  readonly queues: { readonly receive: number; readonly send: number };
  /** RCV_SHUTDOWN 1, SEND_SHUTDOWN 2. */
  readonly shutdown: number;
}

/** Every UNIX socket of this network namespace that belongs to a file, by inode. */
export function unixSockets(): Map<number, UnixSocketInfo> {
  const request = Buffer.alloc(UNIX_DIAG_REQ_BYTES);
  request.writeUInt8(AF_UNIX, 0);
  request.writeUInt32LE(0xffff_ffff, 4);
  request.writeUInt32LE(SHOW, 12);
  return new Map(
    askSockets(request, "asking for UNIX sockets")
      .map(parseUnix)
      .map((s) => [s.inode, s]),
  );
}

/** Asks for all sockets that a request is about: the bodies of the answers. */
export function askSockets(request: Buffer, doing: string): Buffer[] {
  const fd = openNetlink(NETLINK_SOCK_DIAG);
  try {
    const bytes = encodeMessage({ type: SOCK_DIAG_BY_FAMILY, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 1, body: request });
    return exchange(fd, bytes, doing)
      .filter((a) => a.type === SOCK_DIAG_BY_FAMILY)
      .map((a) => a.body);
  } finally {
    close(fd);
  }
}

const INET_DIAG_REQ_BYTES = 56;
const INET_DIAG_MSG_BYTES = 72;
const INET_DIAG_INODE_AT = 68;
const INET_DIAG_SHUTDOWN = 8;

/** Shutdown states (RCV_SHUTDOWN 1, SEND_SHUTDOWN 2) of the sockets of a family and protocol, by inode. */
export function inetShutdowns(family: number, protocol: number): Map<number, number> {
  const request = Buffer.alloc(INET_DIAG_REQ_BYTES);
  request.writeUInt8(family, 0);
  request.writeUInt8(protocol, 1);
  request.writeUInt8(1 << (INET_DIAG_SHUTDOWN - 1), 2);
  request.writeUInt32LE(0xffff_ffff, 4);
  const answers = askSockets(request, `asking for sockets of family ${family}, protocol ${protocol}`);
  return new Map(
    answers.map((body) => [
      body.readUInt32LE(INET_DIAG_INODE_AT),
      attributes(body.subarray(INET_DIAG_MSG_BYTES)).get(INET_DIAG_SHUTDOWN)?.readUInt8(0) ?? 0,
    ]),
  );
}

const INET_DIAG_INFO = 2;
const INET_DIAG_MD5SIG = 18;

/** Inodes of TCP sockets of a family that have keys to sign segments with (TCP_MD5SIG); told to CAP_NET_ADMIN only. */
export function signedByMd5(family: number): Set<number> {
  const request = Buffer.alloc(INET_DIAG_REQ_BYTES);
  request.writeUInt8(family, 0);
  request.writeUInt8(6, 1); // IPPROTO_TCP
  // Keys come along with INET_DIAG_INFO only.
  request.writeUInt8(1 << (INET_DIAG_INFO - 1), 2);
  request.writeUInt32LE(0xffff_ffff, 4);
  const answers = askSockets(request, "asking for TCP sockets with keys");
  return new Set(
    answers
      .filter((body) => attributes(body.subarray(INET_DIAG_MSG_BYTES)).has(INET_DIAG_MD5SIG))
      .map((body) => body.readUInt32LE(INET_DIAG_INODE_AT)),
  );
}

/** Offsets in struct inet_diag_msg: family, port and address of the other end. */
const INET_DIAG_DPORT_AT = 6;
const INET_DIAG_DST_AT = 24;

/** Where sockets in `state` want to: getpeername(2) says it only when they are there. By inode. */
export function inetPeers(family: number, protocol: number, state: number): Map<number, { address: Buffer; port: number }> {
  const request = Buffer.alloc(INET_DIAG_REQ_BYTES);
  request.writeUInt8(family, 0);
  request.writeUInt8(protocol, 1);
  request.writeUInt32LE(1 << state, 4);
  const answers = askSockets(request, `asking for sockets of family ${family}, protocol ${protocol}`);
  return new Map(
    answers.map((body) => {
      const address = Buffer.from(body.subarray(INET_DIAG_DST_AT, INET_DIAG_DST_AT + (body.readUInt8(0) === AF_INET ? 4 : 16)));
      return [body.readUInt32LE(INET_DIAG_INODE_AT), { address, port: body.readUInt16BE(INET_DIAG_DPORT_AT) }];
    }),
  );
}

const IPPROTO_TCP = 6;
const INET_DIAG_SPORT_AT = 4;
const INET_DIAG_SRC_AT = 8;
const MAPPED = Buffer.from("00000000000000000000ffff", "hex");
/** All states but LISTEN, CLOSE and TIME-WAIT, as a set of bits. */
export const TCP_STATES_WITH_PEER = 0xfff & ~((1 << 10) | (1 << 7) | (1 << 6) | 1);

/** TCP connections of this network namespace, as in `7f000001.80-7f000001.4711`: both addresses in hexadecimal, with ports. */
export function inetConnections(states: number): string[] {
  return [...inetConnectionInodes(states).keys()];
}

/** The same, with the inodes of their sockets. */
export function inetConnectionInodes(states: number): Map<string, number> {
  const found = [AF_INET, AF_INET6].flatMap((family) => {
    const request = Buffer.alloc(INET_DIAG_REQ_BYTES);
    request.writeUInt8(family, 0);
    request.writeUInt8(IPPROTO_TCP, 1);
    request.writeUInt32LE(states, 4);
    return askSockets(request, "asking for TCP connections").map((body) => {
      const end = (addressAt: number, portAt: number) => {
        const whole = body.subarray(addressAt, addressAt + (body.readUInt8(0) === AF_INET ? 4 : 16));
        const address = whole.subarray(0, 12).equals(MAPPED) ? whole.subarray(12) : whole;
        return `${address.toString("hex")}.${body.readUInt16BE(portAt)}`;
      };
      const text = `${end(INET_DIAG_SRC_AT, INET_DIAG_SPORT_AT)}-${end(INET_DIAG_DST_AT, INET_DIAG_DPORT_AT)}`;
      return [text, body.readUInt32LE(INET_DIAG_INODE_AT)] as const;
    });
  });
  return new Map(found);
}

const INET_DIAG_ID_AT = 8;
const NO_COOKIE = 0xffff_ffff;

/** One end of a connection. */
interface InetEnd {
  readonly family: "inet" | "inet6";
  readonly address: Buffer;
  readonly port: number;
}

/** Inode of the TCP socket at `own` that is connected to `peer`; undefined: this network namespace has none. */
export function connectionInode(own: InetEnd, peer: InetEnd, device = 0): number | undefined {
  const request = Buffer.alloc(INET_DIAG_REQ_BYTES);
  request.writeUInt8(own.family === "inet" ? AF_INET : AF_INET6, 0);
  request.writeUInt8(IPPROTO_TCP, 1);
  request.writeUInt32LE(TCP_STATES_WITH_PEER, 4);
  request.writeUInt16BE(own.port, INET_DIAG_ID_AT);
  request.writeUInt16BE(peer.port, INET_DIAG_ID_AT + 2);
  own.address.copy(request, INET_DIAG_ID_AT + 4);
  peer.address.copy(request, INET_DIAG_ID_AT + 20);
  request.writeUInt32LE(device, INET_DIAG_ID_AT + 36);
  request.writeUInt32LE(NO_COOKIE, INET_DIAG_ID_AT + 40);
  request.writeUInt32LE(NO_COOKIE, INET_DIAG_ID_AT + 44);
  const fd = openNetlink(NETLINK_SOCK_DIAG);
  try {
    const bytes = encodeMessage({ type: SOCK_DIAG_BY_FAMILY, flags: NLM_F_REQUEST, sequence: 1, body: request });
    const [found] = exchange(fd, bytes, "asking for a TCP connection").filter((a) => a.type === SOCK_DIAG_BY_FAMILY);
    // A socket that listens there is an answer as well.
    if (found === undefined || ((1 << found.body.readUInt8(1)) & TCP_STATES_WITH_PEER) === 0) return undefined;
    return found.body.readUInt32LE(INET_DIAG_INODE_AT);
  } catch (error) {
    if (error instanceof KernelError && error.errno === ERRNO.ENOENT) return undefined;
    throw error;
  } finally {
    close(fd);
  }
}

/** Attributes (struct nlattr) behind a header, by type. */
export function attributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    found.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}

function parseUnix(body: Buffer): UnixSocketInfo {
  const attrs = attributes(body.subarray(UNIX_DIAG_MSG_BYTES));
  const node = attrs.get(UNIX_DIAG_VFS);
  const icons = attrs.get(UNIX_DIAG_ICONS) ?? Buffer.alloc(0);
  const queues = attrs.get(UNIX_DIAG_RQLEN);
  return {
    inode: body.readUInt32LE(4),
    type: body.readUInt8(1),
    state: body.readUInt8(2),
    name: attrs.get(UNIX_DIAG_NAME),
    node: node === undefined ? undefined : { inode: node.readUInt32LE(0), device: node.readUInt32LE(4) },
    peer: attrs.get(UNIX_DIAG_PEER)?.readUInt32LE(0),
    pending: Array.from({ length: icons.length >> 2 }, (_, i) => icons.readUInt32LE(i * 4)),
    queues: { receive: queues?.readUInt32LE(0) ?? 0, send: queues?.readUInt32LE(4) ?? 0 },
    shutdown: attrs.get(UNIX_DIAG_SHUTDOWN)?.readUInt8(0) ?? 0,
  };
}
