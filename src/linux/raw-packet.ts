/**
 * IPv4 and IPv6 packets made by hand and given to a socket of this machine, as if another had sent them.
 *
 * They go out and come back in by the loopback device; ip(7), raw(7), ipv6(7); formats: RFC 791, RFC 8200, RFC 768. Needs
 * CAP_NET_RAW.
 */
import { AF_INET, AF_INET6, type SocketAddress } from "./addresses.js";
import { close } from "./files.js";
import { SOCK_CLOEXEC, SOCK_RAW, sendmsg, setsockoptInt, socket } from "./sockets.js";

const IPPROTO_RAW = 255;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const IPPROTO_IPV6 = 41;
const IPV6_HDRINCL = 36;
const HOPS = 64;
const UDP_BYTES = 8;

/** An end of a packet's way: 4 or 16 bytes, and a port. */
export interface PacketEnd {
  readonly address: Buffer;
  readonly port: number;
}

/** What a header says besides: how far the packet may go, and its type of service or class. */
export interface PacketTraits {
  readonly hops?: number | undefined;
  readonly trafficClass?: number | undefined;
}

/** A packet, but for its header; both ends are of one family. */
export interface Packet extends PacketTraits {
  readonly from: PacketEnd;
  readonly to: PacketEnd;
  /** IPPROTO_…. */
  readonly protocol: number;
  readonly body: Buffer;
}

/** Sends a packet in the name of its sender. */
export function sendPacket(packet: Packet): void {
  const { address } = packet.to;
  const isIpv4 = address.length === 4;
  const fd = socket({ family: isIpv4 ? AF_INET : AF_INET6, type: SOCK_RAW | SOCK_CLOEXEC, protocol: IPPROTO_RAW });
  try {
    if (!isIpv4) setsockoptInt(fd, { level: IPPROTO_IPV6, name: IPV6_HDRINCL }, 1);
    const to: SocketAddress = isIpv4
      ? { family: "inet", address, port: 0 }
      : { family: "inet6", address, port: 0, flowInfo: 0, scopeId: 0 };
    sendmsg(fd, packetBytes(packet), { to });
  } finally {
    close(fd);
  }
}

/** The packet with its header. */
export function packetBytes(packet: Packet): Buffer {
  return packet.to.address.length === 4 ? ipv4(packet) : ipv6(packet);
}

function ipv4({ from, to, protocol, body, hops, trafficClass }: Packet): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt8(trafficClass ?? 0, 1);
  header.writeUInt16BE(header.length + body.length, 2);
  header.writeUInt8(hops ?? HOPS, 8);
  header.writeUInt8(protocol, 9);
  from.address.copy(header, 12);
  to.address.copy(header, 16);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, body]);
}

function ipv6({ from, to, protocol, body, hops, trafficClass = 0 }: Packet): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt16BE(0x6000 | (trafficClass << 4), 0);
  header.writeUInt16BE(body.length, 4);
  header.writeUInt8(protocol, 6);
  header.writeUInt8(hops ?? HOPS, 7);
  from.address.copy(header, 8);
  to.address.copy(header, 24);
  return Buffer.concat([header, body]);
}

/** The checksum of a body whose own is still zero, with that of the pseudo header. */
export function bodyChecksum({ from, to, protocol, body }: Packet): number {
  const tail = Buffer.alloc(8);
  tail.writeUInt32BE(body.length, 0);
  tail.writeUInt8(protocol, 7);
  // With four-byte addresses the pseudo header has a two-byte length, which sums up to the same.
  return checksum(Buffer.concat([from.address, to.address, tail, body]));
}

/** A message of ICMP or ICMPv6 about a packet (RFC 792, RFC 4443). */
export function icmpError(ends: Pick<Packet, "from" | "to">, about: { type: number; code: number; info: number; packet: Buffer }): Packet {
  const head = Buffer.from([about.type, about.code, 0, 0, 0, 0, 0, 0]);
  head.writeUInt32BE(about.info, 4);
  const body = Buffer.concat([head, about.packet]);
  const isIpv4 = ends.to.address.length === 4;
  const packet = { ...ends, protocol: isIpv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, body };
  body.writeUInt16BE(isIpv4 ? checksum(body) : bodyChecksum(packet), 2);
  return packet;
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i + 1 < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  if (bytes.length % 2 === 1) sum += (bytes.at(-1) ?? 0) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** A datagram of UDP or UDP-Lite as a packet. */
export function datagram(way: Omit<Packet, "body">, data: Buffer): Packet {
  const head = Buffer.alloc(UDP_BYTES);
  head.writeUInt16BE(way.from.port, 0);
  head.writeUInt16BE(way.to.port, 2);
  head.writeUInt16BE(UDP_BYTES + data.length, 4);
  const body = Buffer.concat([head, data]);
  // Zero would mean that there is none.
  body.writeUInt16BE(bodyChecksum({ ...way, body }) || 0xffff, 6);
  return { ...way, body };
}

/** Sends a datagram of UDP or UDP-Lite in the name of its sender. */
export function sendDatagram(way: Omit<Packet, "body">, data: Buffer): void {
  sendPacket(datagram(way, data));
}
