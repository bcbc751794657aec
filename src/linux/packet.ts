/**
 * Packet sockets, packet(7): addresses, what packet_diag tells of them, and the layout of their rings.
 *
 * Source: uapi/linux/if_packet.h, packet_diag.h, if.h.
 */
import { AF_PACKET, type SocketAddress } from "./addresses.js";
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { askSockets, attributes } from "./sock-diag.js";
import { type SocketOption, setsockopt } from "./sockets.js";
import { SYS } from "./syscalls.js";

/** An obsolete type of packet sockets, which know devices by name. */
export const SOCK_PACKET = 10;

const SOL_PACKET = 263;
const option = (name: number): SocketOption => ({ level: SOL_PACKET, name });

export const PACKET = {
  ADD_MEMBERSHIP: option(1),
  RX_RING: option(5),
  COPY_THRESH: option(7),
  AUXDATA: option(8),
  ORIGDEV: option(9),
  VERSION: option(10),
  RESERVE: option(12),
  TX_RING: option(13),
  LOSS: option(14),
  VNET_HDR: option(15),
  TIMESTAMP: option(17),
  FANOUT: option(18),
  TX_HAS_OFF: option(19),
  QDISC_BYPASS: option(20),
  IGNORE_OUTGOING: option(23),
  VNET_HDR_SZ: option(24),
} as const;

/** Versions of rings: TPACKET_V1, V2, V3. */
export const TPACKET = { V1: 0, V2: 1, V3: 2 } as const;

/** Ways of sharing packets within a group whose program cannot be read. */
export const FANOUT_BY_PROGRAM: readonly number[] = [6, 7];

const SHOW_INFO = 1;
const SHOW_MCLIST = 2;
const SHOW_RING_CFG = 4;
const SHOW_FANOUT = 8;
const DIAG_REQ_BYTES = 20;
const DIAG_MSG_BYTES = 16;
const DIAG = { info: 0, mclist: 1, rx: 2, tx: 3, fanout: 4 } as const;
const MCLIST_BYTES = 44;
const MCLIST_ADDRESS_AT = 12;
const FLAG = { running: 1, auxdata: 2, origdev: 4, vnetHdr: 8, loss: 16 } as const;

/** struct packet_diag_ring. */
export interface PacketRing {
  readonly block_size: number;
  readonly block_nr: number;
  readonly frame_size: number;
  readonly frame_nr: number;
  readonly retire_tmo: number;
  readonly sizeof_priv: number;
  readonly features: number;
}

const RING_FIELDS = ["block_size", "block_nr", "frame_size", "frame_nr", "retire_tmo", "sizeof_priv", "features"] as const;

/** A multicast group, or promiscuous mode, that a socket asked for, `count` times. */
export interface PacketMembership {
  readonly index: number;
  readonly count: number;
  readonly type: number;
  readonly address: Buffer;
}

/** What packet_diag tells of a socket. */
export interface PacketSocket {
  readonly inode: number;
  /** In host order, as in ETH_P_ALL; 0: hears nothing. */
  readonly protocol: number;
  /** 0: every device; -1: its device is gone. */
  readonly ifindex: number;
  readonly version: number;
  readonly reserve: number;
  readonly copyThresh: number;
  readonly timestamp: number;
  readonly isRunning: boolean;
  readonly auxdata: boolean;
  readonly origdev: boolean;
  readonly vnetHdr: boolean;
  readonly loss: boolean;
  readonly memberships: readonly PacketMembership[];
  readonly rx: PacketRing | undefined;
  readonly tx: PacketRing | undefined;
  readonly isInGroup: boolean;
}

/** All packet sockets of this network namespace, by inode. */
export function packetSockets(): Map<number, PacketSocket> {
  const request = Buffer.alloc(DIAG_REQ_BYTES);
  request.writeUInt8(AF_PACKET, 0);
  request.writeUInt32LE(SHOW_INFO | SHOW_MCLIST | SHOW_RING_CFG | SHOW_FANOUT, 8);
  return new Map(
    askSockets(request, "asking for packet sockets")
      .map(parse)
      .map((s) => [s.inode, s]),
  );
}

function parse(body: Buffer): PacketSocket {
  const attrs = attributes(body.subarray(DIAG_MSG_BYTES));
  const info = attrs.get(DIAG.info) ?? Buffer.alloc(24);
  const flags = info.readUInt32LE(20);
  const memberships = attrs.get(DIAG.mclist) ?? Buffer.alloc(0);
  return {
    inode: body.readUInt32LE(4),
    protocol: body.readUInt16LE(2),
    ifindex: info.readInt32LE(0),
    version: info.readUInt32LE(4),
    reserve: info.readUInt32LE(8),
    copyThresh: info.readUInt32LE(12),
    timestamp: info.readUInt32LE(16),
    isRunning: (flags & FLAG.running) !== 0,
    auxdata: (flags & FLAG.auxdata) !== 0,
    origdev: (flags & FLAG.origdev) !== 0,
    vnetHdr: (flags & FLAG.vnetHdr) !== 0,
    loss: (flags & FLAG.loss) !== 0,
    memberships: Array.from({ length: Math.floor(memberships.length / MCLIST_BYTES) }, (_, i) =>
      parseMembership(memberships.subarray(i * MCLIST_BYTES)),
    ),
    rx: parseRing(attrs.get(DIAG.rx)),
    tx: parseRing(attrs.get(DIAG.tx)),
    isInGroup: attrs.has(DIAG.fanout),
  };
}

function parseMembership(bytes: Buffer): PacketMembership {
  const length = bytes.readUInt16LE(10);
  return {
    index: bytes.readUInt32LE(0),
    count: bytes.readUInt32LE(4),
    type: bytes.readUInt16LE(8),
    address: Buffer.from(bytes.subarray(MCLIST_ADDRESS_AT, MCLIST_ADDRESS_AT + length)),
  };
}

function parseRing(bytes: Buffer | undefined): PacketRing | undefined {
  if (bytes === undefined) return undefined;
  const [block_size = 0, block_nr = 0, frame_size = 0, frame_nr = 0, retire_tmo = 0, sizeof_priv = 0, features = 0] = RING_FIELDS.map(
    (_, i) => bytes.readUInt32LE(i * 4),
  );
  return { block_size, block_nr, frame_size, frame_nr, retire_tmo, sizeof_priv, features };
}

/** Makes a ring: struct tpacket_req, or tpacket_req3 of a socket with rings of version 3. */
export function setRing(fd: number, which: SocketOption, { ring, version }: { ring: PacketRing; version: number }): void {
  const fields = version === TPACKET.V3 ? RING_FIELDS : RING_FIELDS.slice(0, 4);
  const bytes = Buffer.alloc(fields.length * 4);
  fields.forEach((field, i) => bytes.writeUInt32LE(ring[field], i * 4));
  setsockopt(fd, which, bytes);
}

const PACKET_MREQ_BYTES = 16;

/** struct packet_mreq, or the longer packet_mreq_max of the kernel. */
export function addMembership(fd: number, { index, type, addr }: { index: number; type: number; addr: Uint8Array }): void {
  const bytes = Buffer.alloc(Math.max(PACKET_MREQ_BYTES, 8 + addr.length));
  bytes.writeInt32LE(index | 0, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(addr.length, 6);
  bytes.set(addr, 8);
  setsockopt(fd, PACKET.ADD_MEMBERSHIP, bytes);
}

const SOCKADDR_LL_BYTES = 20;

/** struct sockaddr_ll; `protocol` in host order. */
export function linkAddress({ protocol, ifindex }: { protocol: number; ifindex: number }): SocketAddress {
  const bytes = Buffer.alloc(SOCKADDR_LL_BYTES);
  bytes.writeUInt16LE(AF_PACKET, 0);
  bytes.writeUInt16BE(protocol, 2);
  bytes.writeInt32LE(ifindex, 4);
  return { family: "other", number: AF_PACKET, bytes };
}

/** What bind(2) of a {@link SOCK_PACKET} socket takes: a device by its name, in a struct sockaddr. */
export function deviceAddress(name: string): SocketAddress {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_PACKET, 0);
  bytes.write(name.slice(0, 13), 2, "latin1");
  return { family: "other", number: AF_PACKET, bytes };
}

const SIOCGIFNAME = 0x8910;
const SIOCGIFFLAGS = 0x8913;
const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;
const IFF_UP = 1;
const IFF_LOOPBACK = 8;

/** ioctl(fd, SIOCGIFNAME) — the name of the network device of this number; undefined: there is none. */
export function interfaceName(fd: number, index: number): string | undefined {
  const request = Buffer.alloc(IFREQ_BYTES);
  request.writeInt32LE(index, IFNAMSIZ);
  const got = syscallNumber(SYS.ioctl, fd, SIOCGIFNAME, request);
  if (got === -ERRNO.ENODEV) return undefined;
  checked(got, () => `ioctl(${fd}, SIOCGIFNAME)`);
  return request.subarray(0, IFNAMSIZ).toString("latin1").replace(/\0.*$/s, "");
}

function askDevice(fd: number, ask: { request: number; name: string }): Buffer | undefined {
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(ask.name.slice(0, IFNAMSIZ - 1), 0, "latin1");
  const got = syscallNumber(SYS.ioctl, fd, ask.request, request);
  if (got === -ERRNO.ENODEV) return undefined;
  checked(got, () => `ioctl(${fd}, 0x${ask.request.toString(16)}, "${ask.name}")`);
  return request;
}

/** ioctl(fd, SIOCGIFINDEX) — the number of the network device of this name; undefined: there is none. */
export function interfaceIndex(fd: number, name: string): number | undefined {
  return askDevice(fd, { request: SIOCGIFINDEX, name })?.readInt32LE(IFNAMSIZ);
}

/** ioctl(fd, SIOCGIFHWADDR) — the hardware address of a network device; undefined: there is none. */
export function hardwareAddress(fd: number, name: string): Buffer | undefined {
  // struct sockaddr, whose family is the type of hardware.
  return askDevice(fd, { request: SIOCGIFHWADDR, name })?.subarray(IFNAMSIZ + 2, IFNAMSIZ + 8);
}

/** ioctl(fd, SIOCGIFFLAGS) — whether the network device of this name is the loopback device. */
export function isLoopback(fd: number, name: string): boolean {
  return ((askDevice(fd, { request: SIOCGIFFLAGS, name })?.readUInt16LE(IFNAMSIZ) ?? 0) & IFF_LOOPBACK) !== 0;
}

/** ioctl(fd, SIOCGIFFLAGS) — whether the network device of this name is up. */
export function isInterfaceUp(fd: number, name: string): boolean {
  return ((askDevice(fd, { request: SIOCGIFFLAGS, name })?.readUInt16LE(IFNAMSIZ) ?? 0) & IFF_UP) !== 0;
}
