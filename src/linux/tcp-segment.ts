/**
 * One TCP segment made by hand and given to a socket of this machine, as if its peer had sent it.
 *
 * It goes out and comes back in by the loopback device; ip(7), raw(7), ipv6(7); formats: RFC 9293, RFC 791, RFC 8200. Needs
 * CAP_NET_RAW.
 */
import { AF_INET, AF_INET6, type SocketAddress } from "./addresses.js";
import { close } from "./files.js";
import { SOCK_CLOEXEC, SOCK_RAW, sendmsg, setsockoptInt, socket } from "./sockets.js";

const IPPROTO_TCP = 6;
const IPPROTO_RAW = 255;
const IPPROTO_IPV6 = 41;
const IPV6_HDRINCL = 36;
const TCP_BYTES = 20;
const HOPS = 64;

/** An end of a connection: 4 or 16 bytes, and a port. */
export interface SegmentEnd {
  readonly address: Buffer;
  readonly port: number;
}

export interface Segment {
  readonly from: SegmentEnd;
  readonly to: SegmentEnd;
  readonly sequence: number;
  /** The next number that is expected of the receiver. */
  readonly acknowledges: number;
  /** fin: nothing follows; rst: the connection is no more. */
  readonly flag?: "fin" | "rst";
  /** As it stands in the segment, not scaled. */
  readonly window: number;
}

const FLAGS = { fin: 0x01, rst: 0x04, ack: 0x10 } as const;

/** Sends `segment` in the name of its sender. */
export function sendSegment(segment: Segment): void {
  const isIpv4 = segment.to.address.length === 4;
  const packet = isIpv4 ? ipv4(segment) : ipv6(segment);
  const fd = socket({ family: isIpv4 ? AF_INET : AF_INET6, type: SOCK_RAW | SOCK_CLOEXEC, protocol: IPPROTO_RAW });
  try {
    if (!isIpv4) setsockoptInt(fd, { level: IPPROTO_IPV6, name: IPV6_HDRINCL }, 1);
    const { address } = segment.to;
    const to: SocketAddress = isIpv4
      ? { family: "inet", address, port: 0 }
      : { family: "inet6", address, port: 0, flowInfo: 0, scopeId: 0 };
    sendmsg(fd, packet, { to });
  } finally {
    close(fd);
  }
}

function ipv4(segment: Segment): Buffer {
  const header = Buffer.alloc(20); // length, identification and checksum are the kernel's to fill in
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(header.length + TCP_BYTES, 2);
  header.writeUInt8(HOPS, 8);
  header.writeUInt8(IPPROTO_TCP, 9);
  segment.from.address.copy(header, 12);
  segment.to.address.copy(header, 16);
  return Buffer.concat([header, tcp(segment)]);
}

function ipv6(segment: Segment): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(TCP_BYTES, 4);
  header.writeUInt8(IPPROTO_TCP, 6);
  header.writeUInt8(HOPS, 7);
  segment.from.address.copy(header, 8);
  segment.to.address.copy(header, 24);
  return Buffer.concat([header, tcp(segment)]);
}

function tcp({ from, to, sequence, acknowledges, flag, window }: Segment): Buffer {
  const bytes = Buffer.alloc(TCP_BYTES);
  bytes.writeUInt16BE(from.port, 0);
  bytes.writeUInt16BE(to.port, 2);
  bytes.writeUInt32BE(sequence >>> 0, 4);
  bytes.writeUInt32BE(acknowledges >>> 0, 8);
  bytes.writeUInt8((TCP_BYTES / 4) << 4, 12);
  bytes.writeUInt8(FLAGS.ack | (flag === undefined ? 0 : FLAGS[flag]), 13);
  bytes.writeUInt16BE(Math.min(window, 0xffff), 14);
  const tail = Buffer.alloc(8);
  tail.writeUInt32BE(TCP_BYTES, 0);
  tail.writeUInt8(IPPROTO_TCP, 7);
  // With four-byte addresses the pseudo header has a two-byte length, which sums up to the same.
  bytes.writeUInt16BE(checksum(Buffer.concat([from.address, to.address, tail, bytes])), 16);
  return bytes;
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
