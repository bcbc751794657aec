/**
 * Packet sockets (AF_PACKET): SOCK_RAW, SOCK_DGRAM, SOCK_PACKET; what they are bound to, options, memberships, groups that
 * share packets (PACKET_FANOUT), rings.
 *
 * Read from   packet_diag, getsockopt(2)
 * Made with   socket(2), setsockopt(2), bind(2) as the last but the group: no packet arrives before all is in place
 * Refused     groups that share packets by a program, which cannot be read; a kernel without packet_diag:
 *             SOCKET_OPTION_UNREADABLE
 *
 * Packets that wait outside of a ring are lost, as in CRIU: one that is sent again would come from elsewhere.
 */
import { closeSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { AF_PACKET } from "../../linux/addresses.js";
import { setStatusFlags } from "../../linux/fcntl.js";
import {
  FANOUT_BY_PROGRAM,
  PACKET,
  type PacketSocket,
  SOCK_PACKET,
  addMembership,
  deviceAddress,
  interfaceIndex,
  interfaceName,
  linkAddress,
  packetSockets,
} from "../../linux/packet.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO } from "../../linux/socket-options.js";
import {
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
  type SocketOption,
  bind,
  getsockoptInt,
  setsockoptInt,
  socket,
} from "../../linux/sockets.js";
import { namespaceIds } from "../namespaces/ids.js";
import type { DumpSession, Fd, FileKind, FileUse, OpenFile, Problem, RestoreSession } from "../part.js";
import { socketKindOf } from "./asked.js";
import { isOfOtherNetns, readOptions, setOptions, unreadableOption } from "./options.js";
import { socketTitle } from "./other.js";
import { ringBytes } from "./packet-frames.js";
import { makeRings, saveRings } from "./packet-ring.js";
import type { PacketSockEntry } from "./packet.schema.js";

const NO_GROUP = 0xffff_ffff;
/** PACKET_FANOUT_FLAG_UNIQUEID, as PACKET_FANOUT tells it: asks for a number that nobody has. */
const UNIQUE_ID = 0x2000_0000;
const VNET_HDR_BYTES = 10;

const option = (fd: Fd, name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });

export const packetKind: FileKind<PacketSockEntry> = {
  name: "sockets/packet",
  rows: ["sk.packet"],
  type: "PACKETSK",
  field: "psk",
  isPathless: true,
  matches: (file) => file.link.startsWith("socket:[") && socketKindOf(file).family === AF_PACKET,
  dump: dumpPacket,
  open: openPacket,
  check: checkPacket,
};

/** The value; 0 where this kernel does not know the option. */
function known(fd: Fd, which: SocketOption): number {
  try {
    return getsockoptInt(fd, which);
  } catch {
    return 0;
  }
}

function dumpPacket(file: OpenFile, session: DumpSession): PacketSockEntry | undefined {
  const { local } = file;
  const type = option(local, SO.TYPE);
  const title = socketTitle(local);
  const stop = (code: string, because: string, remedy: string) =>
    session.refuse(
      new Refusal({
        code,
        process: { pid: file.task.traced.pid, comm: file.task.comm },
        resource: `fd ${file.fd}, ${title}`,
        because,
        remedy: [remedy],
      }),
    );
  if (isOfOtherNetns(local)) {
    stop(
      "SOCKET_OTHER_NETNS",
      "it belongs to another network namespace than its process",
      "Make sockets in the namespace where they are used",
    );
    return undefined;
  }
  const info = packetSockets().get(Number(file.stat.ino));
  if (info === undefined) {
    stop("SOCKET_OPTION_UNREADABLE", "this kernel does not tell what it is bound to (packet_diag)", "Use a kernel with CONFIG_PACKET_DIAG");
    return undefined;
  }
  const unreadable = unreadableOption(local);
  if (unreadable !== undefined) stop("SOCKET_OPTION_UNREADABLE", unreadable, "Take the filter off before the dump");
  const fanout = info.isInGroup ? known(local, PACKET.FANOUT) : 0;
  if (info.isInGroup && FANOUT_BY_PROGRAM.includes((fanout >>> 16) & 0xff))
    stop(
      "SOCKET_OPTION_UNREADABLE",
      "a program shares packets out in its group, which cannot be read",
      "Let it leave the group before the dump",
    );
  if (info.rx === undefined && bytesToRead(local) > 0)
    session.warn(`packets that wait to be read at fd ${file.fd} of process ${file.task.traced.pid}, ${title}, are not saved`);
  if (info.ifindex < 0)
    session.warn(`the device of fd ${file.fd} of process ${file.task.traced.pid}, ${title}, is gone: it will hear nothing`);
  const entry: PacketSockEntry = { ...fieldsOf(file, info), type, ...(info.isInGroup ? { fanout: (fanout & ~UNIQUE_ID) >>> 0 } : {}) };
  saveRings(local, entry, session);
  noteMapped(session, { inode: info.inode, id: entry.id, bytes: ringBytes(info.rx, info.tx) });
  return entry;
}

function fieldsOf(file: OpenFile, info: PacketSocket): PacketSockEntry {
  const { local } = file;
  const vnetBytes = info.vnetHdr ? known(local, PACKET.VNET_HDR_SZ) : 0;
  const isGone = info.ifindex < 0;
  const device = info.ifindex > 0 ? interfaceName(local, info.ifindex) : undefined;
  return {
    id: file.id,
    type: SOCK_DGRAM,
    protocol: isGone ? 0 : swapped(info.protocol),
    flags: file.info.flags,
    ifindex: isGone ? 0 : info.ifindex,
    fown: file.fown,
    opts: readOptions(local),
    version: info.version,
    reserve: info.reserve,
    aux_data: info.auxdata,
    orig_dev: info.origdev,
    vnet_hdr: info.vnetHdr,
    loss: info.loss,
    timestamp: info.timestamp,
    copy_thresh: info.copyThresh,
    // What was asked for several times is undone as often.
    mclist: info.memberships.flatMap(({ index, type, address, count }) =>
      Array.from({ length: count }, () => ({ index, type, addr: address })),
    ),
    ...(info.rx === undefined ? {} : { rx_ring: info.rx }),
    ...(info.tx === undefined ? {} : { tx_ring: info.tx }),
    ns_id: namespaceIds(file.task.traced).net_ns_id,
    ...(device === undefined ? {} : { device }),
    ...(vnetBytes === 0 || vnetBytes === VNET_HDR_BYTES ? {} : { vnet_hdr_sz: vnetBytes }),
    ...(known(local, PACKET.QDISC_BYPASS) !== 0 ? { qdisc_bypass: true } : {}),
    ...(known(local, PACKET.IGNORE_OUTGOING) !== 0 ? { ignore_outgoing: true } : {}),
    ...(known(local, PACKET.TX_HAS_OFF) !== 0 ? { tx_has_off: true } : {}),
  };
}

interface Mapped {
  readonly inode: number;
  readonly id: number;
  readonly bytes: number;
}
const mapped = new WeakMap<DumpSession, Map<number, Mapped>>();

function noteMapped(session: DumpSession, socket: Mapped): void {
  const sockets = mapped.get(session) ?? new Map<number, Mapped>();
  mapped.set(session, sockets);
  sockets.set(socket.inode, socket);
}

/** The id of the packet socket whose rings a mapping shows; undefined: it is none, or shows only a part of them. */
export function ringFileId(session: DumpSession, area: { inode: bigint; offset: bigint; bytes: bigint }): number | undefined {
  const socket = mapped.get(session)?.get(Number(area.inode));
  return socket !== undefined && area.offset === 0n && BigInt(socket.bytes) === area.bytes ? socket.id : undefined;
}

/** The device as it is numbered here: by its name where the images have it. */
function deviceOf(fd: Fd, entry: PacketSockEntry): { ifindex: number; name: string } | undefined {
  if (entry.ifindex === 0) return { ifindex: 0, name: "" };
  if (entry.device !== undefined) {
    const ifindex = interfaceIndex(fd, entry.device);
    return ifindex === undefined ? undefined : { ifindex, name: entry.device };
  }
  const name = interfaceName(fd, entry.ifindex);
  return name === undefined ? undefined : { ifindex: entry.ifindex, name };
}

function openPacket(entry: PacketSockEntry, session: RestoreSession): Fd {
  const isByName = entry.type === SOCK_PACKET;
  // Without a protocol a socket hears nothing yet; one of the old type takes it from nowhere else.
  const protocol = isByName ? entry.protocol : 0;
  const fd = socket({ family: AF_PACKET, type: entry.type | SOCK_CLOEXEC, protocol });
  try {
    setPacketOptions(fd, entry);
    for (const { index, type, addr } of entry.mclist) addMembership(fd, { index: sameDevice(entry, index, fd), type, addr });
    makeRings(fd, entry, session);
    setOptions(fd, entry.opts);
    const device = deviceOf(fd, entry) ?? { ifindex: entry.ifindex, name: "" };
    if (isByName && device.name !== "") bind(fd, deviceAddress(device.name));
    else if (!isByName && (entry.protocol !== 0 || device.ifindex !== 0))
      bind(fd, linkAddress({ protocol: swapped(entry.protocol), ifindex: device.ifindex }));
    if (entry.fanout !== undefined && entry.fanout !== NO_GROUP) setsockoptInt(fd, PACKET.FANOUT, entry.fanout | 0);
    setStatusFlags(fd, entry.flags);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Images have a protocol as it stands in an address: the other way round. */
const swapped = (protocol: number) => ((protocol & 0xff) << 8) | ((protocol >>> 8) & 0xff);

/** Memberships mostly are of the device that the socket is bound to, whose number may be another here. */
function sameDevice(entry: PacketSockEntry, index: number, fd: Fd): number {
  return index === entry.ifindex ? (deviceOf(fd, entry)?.ifindex ?? index) : index;
}

/** What has to be settled before there are rings. */
function setPacketOptions(fd: Fd, entry: PacketSockEntry): void {
  const set = (which: SocketOption, value: number | boolean | undefined) => {
    if (value !== undefined && Number(value) !== 0) setsockoptInt(fd, which, Number(value) | 0);
  };
  set(PACKET.VERSION, entry.version);
  set(PACKET.RESERVE, entry.reserve);
  set(PACKET.AUXDATA, entry.aux_data);
  set(PACKET.ORIGDEV, entry.orig_dev);
  if (entry.vnet_hdr_sz !== undefined) set(PACKET.VNET_HDR_SZ, entry.vnet_hdr_sz);
  else set(PACKET.VNET_HDR, entry.vnet_hdr);
  set(PACKET.LOSS, entry.loss);
  set(PACKET.TIMESTAMP, entry.timestamp);
  set(PACKET.COPY_THRESH, entry.copy_thresh);
  set(PACKET.QDISC_BYPASS, entry.qdisc_bypass);
  set(PACKET.IGNORE_OUTGOING, entry.ignore_outgoing);
  set(PACKET.TX_HAS_OFF, entry.tx_has_off);
}

function checkPacket(entry: PacketSockEntry, _session: RestoreSession, use: FileUse): Problem[] {
  const fd = socket({ family: AF_PACKET, type: SOCK_DGRAM | SOCK_CLOEXEC });
  try {
    if (deviceOf(fd, entry) !== undefined) return [];
  } finally {
    closeSync(fd);
  }
  const name = entry.device ?? `number ${entry.ifindex}`;
  return [
    new Refusal(
      {
        code: "DEVICE_MISSING",
        process: use.process,
        resource: `${use.what} packet socket`,
        because: `it is bound to the network device "${name}", which there is not`,
        remedy: [`Make the device "${name}"`],
      },
      "restore",
    ),
  ];
}
