/**
 * Netlink sockets: protocol, port, groups, destination, options.
 *
 * Read from   getsockopt(2), getsockname(2), getpeername(2)
 * Made with   socket(2), bind(2), NETLINK_ADD_MEMBERSHIP, connect(2)
 * Refused     messages of the kernel that wait, unless they may be dropped: nobody can send one that seems to come from it
 */
import { closeSync } from "node:fs";
import { KernelError, Refusal } from "../../errors.js";
import { AF_NETLINK, type SocketAddress } from "../../linux/addresses.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { SO } from "../../linux/socket-options.js";
import {
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_RAW,
  SOL_SOCKET,
  bind,
  connect,
  getpeername,
  getsockname,
  getsockopt,
  getsockoptInt,
  pollOnce,
  setsockoptInt,
  socket,
} from "../../linux/sockets.js";
import { POLLERR, POLLIN } from "../../linux/streams.js";
import { namespaceIds } from "../namespaces/ids.js";
import type { DumpSession, Fd, FileKind, FileUse, OpenFile, Problem, RestoreSession } from "../part.js";
import { fileEntry } from "../files/table.schema.js";
import { netlinkKey, readNetlinkQueue, refillNetlink } from "./netlink-queue.js";
import type { NetlinkSkEntry } from "./netlink.schema.js";
import { socketKindOf } from "./asked.js";
import { isOfOtherNetns, readOptions, setOptions, unreadableOption } from "./options.js";
import { saveQueue } from "./queue.js";
import { socketTitle } from "./other.js";

const SOL_NETLINK = 270;
const ADD_MEMBERSHIP = { level: SOL_NETLINK, name: 1 };
const LIST_MEMBERSHIPS = { level: SOL_NETLINK, name: 9 };
const MEMBERSHIPS_BYTES = 512;
const WORD_BITS = 32;
/** PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, LISTEN_ALL_NSID, CAP_ACK, EXT_ACK, GET_STRICT_CHK. */
const SWITCHES = [3, 4, 5, 8, 10, 11, 12];

const option = (fd: Fd, name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });
const NOWHERE = { portId: 0, groups: 0 };
const asNetlink = (address: SocketAddress | undefined) => (address?.family === "netlink" ? address : NOWHERE);

export const netlinkSockets: FileKind<NetlinkSkEntry> = {
  name: "sockets/netlink",
  rows: ["sk.netlink"],
  type: "NETLINKSK",
  field: "nlsk",
  isPathless: true,
  matches: (file) => file.link.startsWith("socket:[") && socketKindOf(file).family === AF_NETLINK,
  dump: dumpNetlink,
  open: openNetlinkSocket,
  check: checkNetlink,
};

function dumpNetlink(file: OpenFile, session: DumpSession): NetlinkSkEntry {
  const { local } = file;
  const stop = (code: string, because: string, ...remedy: [string, ...string[]]) =>
    session.refuse(
      new Refusal({
        code,
        process: { pid: file.task.traced.pid, comm: file.task.comm },
        resource: `fd ${file.fd}, ${socketTitle(local)}`,
        because,
        remedy,
      }),
    );
  if (isOfOtherNetns(local))
    stop(
      "SOCKET_OTHER_NETNS",
      "it belongs to another network namespace than its process",
      "Make sockets in the namespace where they are used",
    );
  const unreadable = unreadableOption(local);
  if (unreadable !== undefined) stop("SOCKET_OPTION_UNREADABLE", unreadable, "Take the filter off before the dump");
  if ((pollOnce(local, 0) & POLLERR) !== 0)
    session.warn(
      `fd ${file.fd} of process ${file.task.traced.pid}, ${socketTitle(local)}, has lost messages and its program has not been told (ENOBUFS); that is not saved`,
    );
  const queue = hasUnread(local) ? readNetlinkQueue(local) : undefined;
  if (queue !== undefined && queue.others !== 0) {
    if (session.options.netlinkPolicy === "drop")
      session.warn(
        `messages of the kernel that fd ${file.fd} of process ${file.task.traced.pid}, ${socketTitle(local)}, has not read are dropped`,
      );
    else
      stop(
        "NETLINK_UNREAD",
        "it holds messages of the kernel that are not read yet",
        "Let the program read its messages first",
        "Have them dropped with --netlink-policy drop, if the program bears that",
      );
  }
  if (queue !== undefined) saveQueue(queue.kept, { id: file.id, task: file.task, session, local });
  const own = asNetlink(getsockname(local));
  const peer = asNetlink(getpeername(local));
  const memberships = getsockopt(local, LIST_MEMBERSHIPS, MEMBERSHIPS_BYTES);
  const words = Array.from({ length: memberships.length >> 2 }, (_, i) => memberships.readUInt32LE(i * 4));
  while (words.length > 1 && words.at(-1) === 0) words.pop();
  return {
    id: file.id,
    ino: Number(file.stat.ino),
    protocol: option(local, SO.PROTOCOL),
    state: peer.portId !== 0 || peer.groups !== 0 ? 1 : 0,
    flags: file.info.flags,
    portid: own.portId,
    groups: words,
    dst_portid: peer.portId,
    dst_group: groupOf(peer.groups),
    fown: file.fown,
    opts: readOptions(local),
    ns_id: namespaceIds(file.task.traced).net_ns_id,
    ...(option(local, SO.TYPE) === SOCK_DGRAM ? { is_dgram: true } : {}),
    switches: SWITCHES.filter((name) => isOn(local, name)),
  };
}

/** The number of the only group in a mask. */
const groupOf = (mask: number) => (mask === 0 ? 0 : WORD_BITS - Math.clz32(mask & -mask));

function isOn(fd: Fd, name: number): boolean {
  try {
    return getsockoptInt(fd, { level: SOL_NETLINK, name }) !== 0;
  } catch {
    return false; // This kernel does not know it.
  }
}

/** Also a look by recvmsg(2) would take an error away. */
function hasUnread(fd: Fd): boolean {
  return (pollOnce(fd, POLLIN) & POLLIN) !== 0;
}

function bound(entry: NetlinkSkEntry): Fd {
  const type = entry.is_dgram === true ? SOCK_DGRAM : SOCK_RAW;
  const fd = socket({ family: AF_NETLINK, type: type | SOCK_CLOEXEC, protocol: entry.protocol });
  try {
    if (entry.portid !== 0) bind(fd, { family: "netlink", portId: entry.portid, groups: 0 });
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

const netlinks = new WeakMap<RestoreSession, Map<number, Fd>>();

/** All have their ports before one hears or says anything: some wait for messages of others. */
function openNetlinkSocket(entry: NetlinkSkEntry, session: RestoreSession): Fd {
  let made = netlinks.get(session);
  if (made === undefined) {
    made = new Map();
    netlinks.set(session, made);
    const entries = session.images.records("FILES", [], fileEntry).flatMap(({ value }) => (value.nlsk === undefined ? [] : [value.nlsk]));
    const byPort = new Map<string, Fd>();
    for (const e of entries) {
      const fd = bound(e);
      session.closeLater(fd);
      made.set(e.id, fd);
      byPort.set(netlinkKey(e.protocol, e.portid), fd);
    }
    for (const e of entries) refillNetlink(made.get(e.id) as Fd, e, { made: byPort, session });
  }
  const fd = made.get(entry.id);
  if (fd === undefined) throw new Error(`internal error: the netlink socket ${entry.id} has not been made`);
  return finished(dupFrom(fd, 0), entry);
}

/** Everything that comes when its port and its queue are there. */
function finished(fd: Fd, entry: NetlinkSkEntry): Fd {
  try {
    entry.groups.forEach((word, i) => {
      for (let bit = 0; bit < WORD_BITS; bit++) if ((word >>> bit) & 1) setsockoptInt(fd, ADD_MEMBERSHIP, i * WORD_BITS + bit + 1);
    });
    if (entry.dst_portid !== 0 || entry.dst_group !== 0) {
      connect(fd, { family: "netlink", portId: entry.dst_portid, groups: entry.dst_group === 0 ? 0 : 2 ** (entry.dst_group - 1) });
    }
    for (const name of entry.switches) setsockoptInt(fd, { level: SOL_NETLINK, name }, 1);
    setOptions(fd, entry.opts);
    setStatusFlags(fd, entry.flags);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function checkNetlink(entry: NetlinkSkEntry, _session: unknown, use: FileUse): Problem[] {
  try {
    closeSync(bound(entry));
    return [];
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return [
      new Refusal(
        {
          code: "ADDRESS_UNAVAILABLE",
          process: use.process,
          resource: `${use.what} netlink socket with port ${entry.portid}`,
          because: error.message,
          remedy: ["End the program that uses the port"],
        },
        "restore",
      ),
    ];
  }
}
