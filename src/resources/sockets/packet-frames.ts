/**
 * How frames and blocks lie in the ring of a packet socket, and where in it the kernel goes on writing.
 *
 * The kernel tells nobody where that is. It shows in what it has written: the newest frame has the latest time, the block it
 * is filling the highest number. Source: uapi/linux/if_packet.h.
 */
import { type PacketRing, TPACKET } from "../../linux/packet.js";

const STATUS_USER = 1;
const STATUS_SEND_REQUEST = 1;

/** Bytes of both rings of a socket. */
export function ringBytes(...rings: readonly (PacketRing | undefined)[]): number {
  return rings.reduce((sum, ring) => sum + (ring === undefined ? 0 : ring.block_size * ring.block_nr), 0);
}

/** Where in its ring a frame lies: each block has as many as fit. */
function frameAt({ block_size, frame_size }: PacketRing, i: number): number {
  const each = Math.floor(block_size / frame_size);
  return Math.floor(i / each) * block_size + (i % each) * frame_size;
}

/** Offsets of seconds and their parts in struct tpacket_hdr and tpacket2_hdr. */
const TIME_AT = { [TPACKET.V1]: 20, [TPACKET.V2]: 16 } as const;
const LENGTH_AT = { [TPACKET.V1]: 8, [TPACKET.V2]: 4, [TPACKET.V3]: 16 } as const;
const STATUS_AT = { [TPACKET.V1]: 0, [TPACKET.V2]: 0, [TPACKET.V3]: 20 } as const;
type Version = keyof typeof STATUS_AT;

const isVersion = (version: number): version is Version => version in STATUS_AT;

/** The frame that the kernel writes next into a ring of version 1 or 2. */
export function nextFrame(bytes: Buffer, { ring, version }: { ring: PacketRing; version: number }): number {
  const at = version === TPACKET.V1 ? TIME_AT[TPACKET.V1] : TIME_AT[TPACKET.V2];
  const timeOf = (i: number) => {
    const frame = frameAt(ring, i % ring.frame_nr) + at;
    return bytes.readUInt32LE(frame) * 1e9 + bytes.readUInt32LE(frame + 4) * (version === TPACKET.V1 ? 1000 : 1);
  };
  let newest = -1;
  let latest = 0;
  for (let i = 0; i < ring.frame_nr; i++) {
    const time = timeOf(i);
    // Of frames with one and the same time the last is the newest, and behind it are older ones.
    if (time !== 0 && (time > latest || (time === latest && newest === i - 1))) [newest, latest] = [i, time];
  }
  return (newest + 1) % ring.frame_nr;
}

export function isFilled(bytes: Buffer, { ring, frame }: { ring: PacketRing; frame: number }): boolean {
  return (bytes.readUInt32LE(frameAt(ring, frame)) & STATUS_USER) !== 0;
}

/**
 * The frame of a ring for sending that the kernel looks at next: the first that is to be sent, or the first that was never
 * used. Undefined: every frame was used, and none is to be sent.
 */
export function nextToSend(bytes: Buffer, { ring, version }: { ring: PacketRing; version: number }): number | undefined {
  if (!isVersion(version)) return undefined;
  const word = (i: number, at: number) => bytes.readUInt32LE(frameAt(ring, i % ring.frame_nr) + at);
  const isWaiting = (i: number) => (word(i, STATUS_AT[version]) & STATUS_SEND_REQUEST) !== 0;
  const frames = Array.from({ length: ring.frame_nr }, (_, i) => i);
  const first = frames.find((i) => isWaiting(i) && !isWaiting(i + ring.frame_nr - 1));
  if (first !== undefined) return first;
  const unused = frames.find((i) => word(i, LENGTH_AT[version]) === 0);
  return unused;
}

/** tp_mac, which tp_net follows, and where the packet begins unless these say so. */
const MAC_AT = { [TPACKET.V1]: 16, [TPACKET.V2]: 12, [TPACKET.V3]: 24 } as const;
const DATA_AT = { [TPACKET.V1]: 32, [TPACKET.V2]: 32, [TPACKET.V3]: 48 } as const;

/** Marks a frame of a ring for sending. */
export function markToSend(
  bytes: Buffer,
  { ring, version, frame, packet }: { ring: PacketRing; version: number; frame: number; packet: Buffer },
): void {
  if (!isVersion(version)) return;
  const at = frameAt(ring, frame);
  packet.copy(bytes, at + DATA_AT[version]);
  if (version === TPACKET.V3) bytes.writeUInt32LE(0, at);
  bytes.writeUInt16LE(DATA_AT[version], at + MAC_AT[version]);
  bytes.writeUInt16LE(DATA_AT[version], at + MAC_AT[version] + 2);
  bytes.writeUInt32LE(packet.length, at + LENGTH_AT[version]);
  bytes.writeUInt32LE(STATUS_SEND_REQUEST, at + STATUS_AT[version]);
}

/** The status of a frame of a ring for sending; 0: it is free. */
export function sendStatus(bytes: Buffer, { ring, version, frame }: { ring: PacketRing; version: number; frame: number }): number {
  return isVersion(version) ? bytes.readUInt32LE(frameAt(ring, frame) + STATUS_AT[version]) & 0xff : 0;
}

/** struct tpacket_block_desc and tpacket_hdr_v1. */
const BLOCK = { status: 8, packets: 12, first: 16, length: 20, sequence: 24 } as const;
const PACKET_FIELDS = { next: 0, length: 12, mac: 24 } as const;

/** A block of a ring of version 3. */
export interface Block {
  readonly isFilled: boolean;
  readonly packets: number;
  readonly first: number;
  readonly length: number;
  readonly sequence: bigint;
}

export function blockAt(bytes: Buffer, { block_size }: PacketRing, i: number): Block {
  const at = i * block_size;
  return {
    isFilled: (bytes.readUInt32LE(at + BLOCK.status) & STATUS_USER) !== 0,
    packets: bytes.readUInt32LE(at + BLOCK.packets),
    first: bytes.readUInt32LE(at + BLOCK.first),
    length: bytes.readUInt32LE(at + BLOCK.length),
    sequence: bytes.readBigUInt64LE(at + BLOCK.sequence),
  };
}

/** Gives a block back to the kernel. */
export function freeBlock(bytes: Buffer, { block_size }: PacketRing, i: number): void {
  bytes.writeUInt32LE(0, i * block_size + BLOCK.status);
}

/** Lets a block look empty, beginning at `first`. */
export function emptyBlock(bytes: Buffer, { ring, block, first }: { ring: PacketRing; block: number; first: number }): void {
  bytes.writeUInt32LE(0, block * ring.block_size + BLOCK.packets);
  bytes.writeUInt32LE(first, block * ring.block_size + BLOCK.first);
}

/** The block that the kernel is filling. `isFull`: all are filled, and this is the one it waits for. */
export function activeBlock(bytes: Buffer, ring: PacketRing): { block: number; isFull: boolean } {
  let newest = 0;
  let highest = 0n;
  for (let i = 0; i < ring.block_nr; i++) {
    const { sequence } = blockAt(bytes, ring, i);
    if (sequence > highest) [newest, highest] = [i, sequence];
  }
  if (!blockAt(bytes, ring, newest).isFilled) return { block: newest, isFull: false };
  return { block: (newest + 1) % ring.block_nr, isFull: true };
}

const ALIGNMENT = 8;
export const alignedUp = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
/** sizeof(struct tpacket_block_desc). */
export const BLOCK_HEAD_BYTES = 48;

/** Where packets begin in a block. */
export const blockStart = ({ sizeof_priv }: PacketRing) => BLOCK_HEAD_BYTES + alignedUp(sizeof_priv);

/** How much of a block each of its packets takes, and before them what is left free. Stops where the chain of packets is none. */
export function packetSizes(bytes: Buffer, ring: PacketRing, i: number): number[] {
  const { packets, first } = blockAt(bytes, ring, i);
  const gap = first - blockStart(ring);
  const sizes: number[] = gap > 0 && first < ring.block_size ? [gap] : [];
  const count = sizes.length + packets;
  for (let at = first; sizes.length < count; at += sizes.at(-1) ?? 0) {
    const head = i * ring.block_size + at;
    if (at + 48 > ring.block_size) break;
    const size = alignedUp(bytes.readUInt16LE(head + PACKET_FIELDS.mac) + bytes.readUInt32LE(head + PACKET_FIELDS.length));
    if (size <= 0 || at + size > ring.block_size) break;
    sizes.push(size);
  }
  return sizes;
}
