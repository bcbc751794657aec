/**
 * One TCP segment made by hand and given to a socket of this machine, as if its peer had sent it.
 *
 * It goes out and comes back in by the loopback device; ip(7), raw(7), ipv6(7); formats: RFC 9293, RFC 791, RFC 8200. Needs
 * CAP_NET_RAW.
 */
import { type PacketEnd, bodyChecksum, sendPacket } from "./raw-packet.js";

const IPPROTO_TCP = 6;
const TCP_BYTES = 20;

/** An end of a connection: 4 or 16 bytes, and a port. */
export type SegmentEnd = PacketEnd;

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
  const { from, to } = segment;
  const way = { from, to, protocol: IPPROTO_TCP };
  const body = tcp(segment);
  body.writeUInt16BE(bodyChecksum({ ...way, body }), 16);
  sendPacket({ ...way, body });
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
  return bytes;
}
