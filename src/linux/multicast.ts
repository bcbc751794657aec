/**
 * Multicast groups of sockets, ip(7), ipv6(7), RFC 3678: which a socket is in, from which sources; and those of the devices.
 *
 * Source: uapi/linux/in.h (struct group_req, struct group_filter); /proc/net/igmp, /proc/net/igmp6.
 */
import { KernelError } from "../errors.js";
import { type SocketAddress, SOCKADDR_STORAGE_BYTES, decodeAddress, encodeAddress } from "./addresses.js";
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { setsockopt } from "./sockets.js";
import { SYS } from "./syscalls.js";

const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const MCAST_JOIN_GROUP = 42;
const MCAST_MSFILTER = 48;
/** From all but the sources that are named; from these alone. */
export const MCAST_EXCLUDE = 0;
export const MCAST_INCLUDE = 1;

const GROUP_AT = 8;
const MODE_AT = GROUP_AT + SOCKADDR_STORAGE_BYTES;
const COUNT_AT = MODE_AT + 4;
const SOURCES_AT = COUNT_AT + 4;
/** More sources than net.ipv4.igmp_max_msf lets anybody have. */
const MAX_SOURCES = 4096;

/** A group on a network device. 4 or 16 bytes of address. */
export interface DeviceGroup {
  readonly ifindex: number;
  readonly device: string;
  readonly group: Buffer;
}

/** From which sources a socket hears a group. */
export interface SourceFilter {
  readonly mode: number;
  readonly sources: readonly Buffer[];
}

const levelOf = (group: Uint8Array) => (group.length === 4 ? IPPROTO_IP : IPPROTO_IPV6);

function address(bytes: Uint8Array): SocketAddress {
  if (bytes.length === 4) return { family: "inet", address: Buffer.from(bytes), port: 0 };
  return { family: "inet6", address: Buffer.from(bytes), port: 0, flowInfo: 0, scopeId: 0 };
}

/** struct group_filter. */
function groupFilter(
  { ifindex, group, mode, sources }: Pick<DeviceGroup, "ifindex"> & SourceFilter & { group: Uint8Array },
  room = 0,
): Buffer {
  const bytes = Buffer.alloc(SOURCES_AT + Math.max(room, sources.length) * SOCKADDR_STORAGE_BYTES);
  bytes.writeUInt32LE(ifindex, 0);
  encodeAddress(address(group)).copy(bytes, GROUP_AT);
  bytes.writeUInt32LE(mode, MODE_AT);
  bytes.writeUInt32LE(Math.max(room, sources.length), COUNT_AT);
  sources.forEach((source, i) => encodeAddress(address(source)).copy(bytes, SOURCES_AT + i * SOCKADDR_STORAGE_BYTES));
  return bytes;
}

/** getsockopt(MCAST_MSFILTER) — undefined: the socket is not in the group. */
export function sourceFilter(fd: number, of: DeviceGroup): SourceFilter | undefined {
  for (let room = 0; ; ) {
    const bytes = groupFilter({ ...of, mode: 0, sources: [] }, room);
    const length = Buffer.alloc(4);
    length.writeInt32LE(bytes.length, 0);
    const got = syscallNumber(SYS.getsockopt, fd, levelOf(of.group), MCAST_MSFILTER, bytes, length);
    if (got === -ERRNO.EADDRNOTAVAIL || got === -ERRNO.EINVAL || got === -ERRNO.ENOPROTOOPT) return undefined;
    checked(got, () => `getsockopt(${fd}, MCAST_MSFILTER)`);
    const count = bytes.readUInt32LE(COUNT_AT);
    if (count <= room || count > MAX_SOURCES)
      return { mode: bytes.readUInt32LE(MODE_AT), sources: sourcesOf(bytes, Math.min(count, room)) };
    room = count;
  }
}

function sourcesOf(bytes: Buffer, count: number): Buffer[] {
  return Array.from({ length: count }, (_, i) => {
    const source = decodeAddress(bytes.subarray(SOURCES_AT + i * SOCKADDR_STORAGE_BYTES, SOURCES_AT + (i + 1) * SOCKADDR_STORAGE_BYTES));
    return source.family === "inet" || source.family === "inet6" ? source.address : Buffer.alloc(0);
  });
}

/** setsockopt(MCAST_JOIN_GROUP), and MCAST_MSFILTER where not all sources are heard. */
export function joinGroup(fd: number, to: { ifindex: number; group: Uint8Array } & SourceFilter): void {
  const bytes = Buffer.alloc(GROUP_AT + SOCKADDR_STORAGE_BYTES);
  bytes.writeUInt32LE(to.ifindex, 0);
  encodeAddress(address(to.group)).copy(bytes, GROUP_AT);
  const level = levelOf(to.group);
  try {
    setsockopt(fd, { level, name: MCAST_JOIN_GROUP }, bytes);
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ERRNO.EADDRINUSE) throw error;
  }
  if (to.mode === MCAST_INCLUDE || to.sources.length > 0) setsockopt(fd, { level, name: MCAST_MSFILTER }, groupFilter(to));
}

/** Groups of all devices, from the text of /proc/net/igmp: a line for a device, and lines for its groups. */
export function parseIgmp(text: string): DeviceGroup[] {
  const groups: DeviceGroup[] = [];
  let on: { ifindex: number; device: string } | undefined;
  for (const line of text.split("\n")) {
    const device = /^(\d+)\s+(\S+)\s*:/.exec(line);
    if (device !== null) on = { ifindex: Number(device[1]), device: device[2] ?? "" };
    const group = /^\s+([0-9A-F]{8})\s/.exec(line)?.[1];
    if (group !== undefined && on !== undefined) groups.push({ ...on, group: Buffer.from(group, "hex").reverse() });
  }
  return groups;
}

/** The same from /proc/net/igmp6: a line for each group. */
export function parseIgmp6(text: string): DeviceGroup[] {
  return text.split("\n").flatMap((line) => {
    const [, ifindex, device = "", group = ""] = /^(\d+)\s+(\S+)\s+([0-9a-f]{32})\s/.exec(line) ?? [];
    return ifindex === undefined ? [] : [{ ifindex: Number(ifindex), device, group: Buffer.from(group, "hex") }];
  });
}
