/**
 * IPv4 and IPv6 sockets: UDP and UDP-Lite with what has arrived; TCP that listens, is connected, or is not.
 *
 * Read from   getsockopt(2), getsockname(2), getpeername(2), TCP_INFO; queues by MSG_PEEK
 * Made with   socket(2), bind(2), connect(2), listen(2); queued datagrams are sent again from the address they came from
 */
import { closeSync } from "node:fs";
import { KernelError, Refusal } from "../../errors.js";
import { AF_INET, type SocketAddress } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { SOCKET_STATE, inetPeers, inetShutdowns } from "../../linux/sock-diag.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO, bytesUnread, setLinger } from "../../linux/socket-options.js";
import {
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  bind,
  connect,
  getpeername,
  getsockname,
  listen,
  pollOnce,
  setsockoptInt,
  shutdown,
} from "../../linux/sockets.js";
import { tcpInfo } from "../../linux/tcp.js";
import { afterDescriptors } from "../files/table.js";
import { namespaceIds } from "../namespaces/ids.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import { IPPROTO_TCP, type InetKind, readInetOptions, setInetOptions } from "./inet-options.js";
import type { InetSkEntry } from "./inet.schema.js";
import { checkInet } from "./inet-check.js";
import { addressOf, inetEntries, placed, placeFields } from "./inet-address.js";
import { isOfOtherNetns, readOptions, setOptions, unreadableOption } from "./options.js";
import { socketTitle } from "./other.js";
import { peekMessages } from "./peek.js";
import { saveQueue } from "./queue.js";
import { BOTH, bound, isCarried, isOver, kindOf, plain } from "./inet-socket.js";
import {
  forgetConnection,
  hasConnection,
  makeConnection,
  makeRemains,
  saveConnection,
  saveRemains,
  startConnection,
} from "./tcp-connection.js";
import { type Fate, asOver, fateAtDump, fateAtRestore } from "./tcp-policy.js";
import { TCP_STATE, isConnection } from "./tcp-states.js";
import { refillUdp } from "./udp-queue.js";

const READ = 1;
const WRITE = 2;
const O_NONBLOCK = 0o4000;

export const inetSockets: FileKind<InetSkEntry> = {
  name: "sockets/inet",
  rows: [
    "sk.opts-generic",
    "sk.udp",
    "tcp.listen",
    "tcp.unconnected",
    "tcp.established",
    "tcp.buffers",
    "tcp.half-closed",
    "tcp.closed",
    "tcp.syn-in-flight",
    "tcp.tcp-close",
    "tcp.opts",
  ],
  type: "INETSK",
  field: "isk",
  matches: ({ link, local }) => link.startsWith("socket:[") && isCarried(kindOf(local)),
  dump: (file, session) => dumpInet(file, session),
  open: (entry, session) => openInet(entry, session),
  finish: (entry, { session }) => tellEnd(entry, session),
  check: (entry, session, use) => checkInet(entry, session, use),
};

type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

function dumpInet(file: OpenFile, session: DumpSession): InetSkEntry | undefined {
  const { local } = file;
  const kind = kindOf(local);
  const resource = `fd ${file.fd}, ${socketTitle(local)}`;
  const process = { pid: file.task.traced.pid, comm: file.task.comm };
  const stop: Stop = (code, because, ...remedy) => session.refuse(new Refusal({ code, process, resource, because, remedy }));
  if (isOfOtherNetns(local))
    stop(
      "SOCKET_OTHER_NETNS",
      "it belongs to another network namespace than its process",
      "Make sockets in the namespace where they are used",
    );
  const unreadable = unreadableOption(local);
  if (unreadable !== undefined) stop("SOCKET_OPTION_UNREADABLE", unreadable, "Take the filter off before the dump");
  const own = getsockname(local);
  const isTcp = kind.proto === IPPROTO_TCP;
  const now = isTcp ? tcpInfo(local).state : undefined;
  const peer = now === TCP_STATE.SYN_SENT ? askedPeer(kind, Number(file.stat.ino)) : peerOf(local);
  const fate = now !== undefined && isUnderWay(now) ? fateAtDump(own, peer, session) : undefined;
  const state = isTcp ? tcpState(local, { session, stop, fate }) : udpState(file, kind, stop);
  const entry: InetSkEntry = {
    id: file.id,
    ino: Number(file.stat.ino),
    family: kind.family,
    type: kind.type,
    proto: kind.proto,
    flags: file.info.flags,
    fown: file.fown,
    opts: readOptions(local),
    ns_id: namespaceIds(file.task.traced.pid).net_ns_id,
    ...state,
    ...placeFields("src", own),
    ...placeFields("dst", peer),
    ...readInetOptions(local, kind),
  } as InetSkEntry;
  if (own.family === "inet6" && own.scopeId !== 0) entry.scope_id = own.scopeId;
  if (kind.type === SOCK_DGRAM) saveDatagrams(file, session);
  else if (isConnection(entry.state) && fate === "keep") saveConnection(file, entry, { session, stop });
  else if (isOver(entry) && bytesToRead(local) > 0) saveRemains(file, entry, session);
  if (fate === "reset") breakOffLater(local, session);
  return entry;
}

function peerOf(fd: Fd): SocketAddress | undefined {
  try {
    return getpeername(fd);
  } catch {
    return undefined;
  }
}

/** Whom a socket asks for a connection. */
function askedPeer({ family, proto }: InetKind, inode: number): SocketAddress | undefined {
  const peer = inetPeers(family, proto, TCP_STATE.SYN_SENT).get(inode);
  if (peer === undefined) return undefined;
  return peer.address.length === 4 ? { family: "inet", ...peer } : { family: "inet6", ...peer, flowInfo: 0, scopeId: 0 };
}

function tcpState(
  fd: Fd,
  { session, stop, fate }: { session: DumpSession; stop: Stop; fate: Fate | undefined },
): Pick<InetSkEntry, "state" | "backlog"> & Partial<Pick<InetSkEntry, "shutdown" | "broken_off">> {
  const { state, backlog } = tcpInfo(fd);
  if (state === SOCKET_STATE.LISTEN) {
    if (backlog.now > 0 && !session.options.skipInFlight)
      stop(
        "TCP_NOT_ACCEPTED",
        "connections wait to be accepted",
        "Let the program accept them before the dump",
        "Leave them out with --skip-in-flight",
      );
    return { state, backlog: backlog.limit };
  }
  if (state === SOCKET_STATE.CLOSE) {
    const { isOver, hasError } = pollNow(fd);
    return { state, backlog: 0, ...(isOver ? { shutdown: BOTH } : {}), ...(hasError ? { broken_off: true } : {}) };
  }
  if (fate === "close" || fate === "reset")
    return { state: SOCKET_STATE.CLOSE, backlog: 0, shutdown: BOTH, ...(fate === "reset" ? { broken_off: true } : {}) };
  if (isConnection(state) && fate === "unsaid")
    stop(
      "TCP_CONNECTED",
      "it is a TCP connection",
      "Allow connections with --tcp-established",
      "Have connections closed in the restored program with --tcp-close",
      "Say what to do with each by --tcp-policy",
      "Let the program close its connections first",
    );
  else if (!isConnection(state) && state !== TCP_STATE.SYN_SENT)
    stop("TCP_CLOSING", `its connection is in the unknown state ${state}`, "Let the connection come to its end first");
  return { state, backlog: 0 };
}

const isUnderWay = (state: number) => isConnection(state) || state === TCP_STATE.SYN_SENT;

/** The other end of a connection that is not kept learns of it when the tree is dead. */
function breakOffLater(fd: Fd, session: DumpSession): void {
  const local = dupFrom(fd, 0);
  session.takeBack(() => closeSync(local));
  session.afterDeath(() => {
    setLinger(local, 0); // The last descriptor goes with a reset then.
    closeSync(local);
  });
}

/** A datagram socket is "established" when it is connected. */
function udpState({ local, stat }: OpenFile, { family, proto }: InetKind, stop: Stop): Pick<InetSkEntry, "state" | "backlog" | "shutdown"> {
  if (isCorked(local))
    stop("UDP_CORKED", "it holds a datagram that is not complete (MSG_MORE or UDP_CORK)", "Let the program finish what it sends");
  const how = inetShutdowns(family, proto).get(Number(stat.ino)) ?? 0;
  return {
    state: peerOf(local) === undefined ? SOCKET_STATE.CLOSE : SOCKET_STATE.ESTABLISHED,
    backlog: 0,
    ...(how === 0 ? {} : { shutdown: how as NonNullable<InetSkEntry["shutdown"]> }),
  };
}

const SENDING_LIMIT_MS = 20;

/** Whether data stays in the socket: what is only on its way through a device is gone soon. */
function isCorked(fd: Fd): boolean {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (let waitedMs = 0; bytesUnread(fd) > 0; waitedMs++) {
    if (waitedMs === SENDING_LIMIT_MS) return true;
    Atomics.wait(nap, 0, 0, 1);
  }
  return false;
}

function saveDatagrams(file: OpenFile, session: DumpSession): void {
  const local = dupFrom(file.local, 0);
  const { id, task } = file;
  afterDescriptors(session, () => {
    try {
      saveQueue(peekMessages(local, { ends: false }), { id, task, session });
    } finally {
      closeSync(local);
    }
  });
}

const datagramSockets = new WeakMap<RestoreSession, Map<number, Fd>>();

function openInet(entry: InetSkEntry, session: RestoreSession): Fd {
  return entry.type === SOCK_DGRAM ? openDatagram(entry, session) : openStream(entry, session);
}

const streamSockets = new WeakMap<RestoreSession, Map<number, Fd>>();

/** All TCP sockets of a restore: those that listen first; connections stay silent until the last is made. */
function openStream(entry: InetSkEntry, session: RestoreSession): Fd {
  let made = streamSockets.get(session);
  if (made === undefined) {
    made = new Map();
    streamSockets.set(session, made);
    const entries = inetEntries(session)
      .filter(({ type }) => type === SOCK_STREAM)
      .map((e) => asAllowed(e, session));
    const keep = (e: InetSkEntry, fd: Fd) => {
      made?.set(e.id, fd);
      session.closeLater(fd);
      return fd;
    };
    const isLive = (e: InetSkEntry) => isConnection(e.state);
    // Who asks comes last: the one that answers may be among them.
    const isAsking = (e: InetSkEntry) => e.state === TCP_STATE.SYN_SENT;
    for (const e of entries.filter((e) => !isLive(e) && !isAsking(e))) openUnconnected(e, (fd) => keep(e, fd), session);
    const connections = entries.filter(isLive).map((e) => makeConnection(keep(e, plain(e)), e, session));
    for (const connection of connections) {
      startConnection(connection);
      finish(connection.fd, connection.entry);
    }
    for (const e of entries.filter(isAsking)) openUnconnected(e, (fd) => keep(e, fd), session);
  }
  const fd = made.get(entry.id);
  if (fd === undefined) throw new Error(`internal error: the TCP socket ${entry.id} has not been made`);
  return dupFrom(fd, 0);
}

/** The other end of a connection that is not kept is told so, if the address can be had; else it learns of it when it says something. */
function tellEnd(entry: InetSkEntry, session: RestoreSession): void {
  if (entry.type !== SOCK_STREAM || !isConnection(entry.state)) return;
  const fate = fateAtRestore(placed(entry, session), session);
  if (fate === "keep" || !hasConnection(entry, session)) return;
  const fd = plain(entry);
  try {
    startConnection(makeConnection(fd, entry, session));
    if (fate === "reset") setLinger(fd, 0);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    forgetConnection(entry);
  } finally {
    closeSync(fd);
  }
}

/** What the user lets it be: a connection, or one that is over. */
function asAllowed(entry: InetSkEntry, session: RestoreSession): InetSkEntry {
  const fate = isUnderWay(entry.state) ? fateAtRestore(entry, session) : "keep";
  return fate === "close" || fate === "reset" ? asOver(entry, fate) : entry;
}

/** A socket that listens, that never had a connection, that asks for one, or whose connection is over. */
function openUnconnected(entry: InetSkEntry, keep: (fd: Fd) => Fd, session: RestoreSession): void {
  if (entry.state !== SOCKET_STATE.LISTEN && entry.state !== TCP_STATE.SYN_SENT && (entry.state !== SOCKET_STATE.CLOSE || isOver(entry))) {
    openOver(entry, keep, session);
    return;
  }
  const fd = keep(bound(entry));
  if (entry.state === SOCKET_STATE.LISTEN) listen(fd, entry.backlog);
  if (entry.state === TCP_STATE.SYN_SENT) askAgain(fd, entry);
  finish(fd, entry);
}

/** Its connection is over: nobody minds which address it had if that cannot be had now. It never keeps a restore from being made. */
function openOver(entry: InetSkEntry, keep: (fd: Fd) => Fd, session: RestoreSession): void {
  const hasRemains = session.images.exists("TCP_STREAM", [entry.ino]);
  const own = addressOf(entry, "src");
  for (const address of [...(own === undefined ? [] : [own]), loopback(entry.family)]) {
    const fd = plain(entry);
    try {
      if (hasRemains || entry.broken_off === true) makeRemains(fd, entry, address, session);
      else {
        setsockoptInt(fd, { level: SOL_SOCKET, name: SO.REUSEADDR }, 1);
        bind(fd, address);
      }
      shutDown(fd, BOTH);
      finish(keep(fd), entry);
      return;
    } catch (error) {
      closeSync(fd);
      if (!(error instanceof KernelError)) throw error;
    }
  }
  const fd = keep(plain(entry));
  if (hasRemains)
    session.warn(`what could still be read from the closed TCP connection at port ${entry.src_port} is lost: no address can be had`);
  shutDown(fd, BOTH);
  finish(fd, entry);
}

function loopback(family: number): SocketAddress {
  if (family === AF_INET) return { family: "inet", address: Buffer.from([127, 0, 0, 1]), port: 0 };
  return { family: "inet6", address: Buffer.from(`${"00".repeat(15)}01`, "hex"), port: 0, flowInfo: 0, scopeId: 0 };
}

/** The request is made again; whoever waits for the answer goes on waiting. */
function askAgain(fd: Fd, entry: InetSkEntry): void {
  const peer = addressOf(entry, "dst");
  if (peer === undefined) return;
  setStatusFlags(fd, O_NONBLOCK);
  try {
    connect(fd, peer);
  } catch (error) {
    // It is under way, or it fails, which the program will learn as it would have.
    if (!(error instanceof KernelError)) throw error;
  }
}

/** shutdown(2) of a socket without connection does what it should, and reports an error all the same. */
function shutDown(fd: Fd, how: number): void {
  try {
    shutdown(fd, how - 1);
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ERRNO.ENOTCONN) throw error;
  }
}

const POLLERR = 8;
const POLLRDHUP = 0x2000;

/** A look that takes nothing away: whether nothing more can come, and whether an error waits for the program. */
function pollNow(fd: Fd): { isOver: boolean; hasError: boolean } {
  const events = pollOnce(fd, POLLRDHUP);
  return { isOver: (events & POLLRDHUP) !== 0, hasError: (events & POLLERR) !== 0 };
}

/** All datagram sockets of a restore are made before one is connected or loses its right to share an address: some send to others. */
function openDatagram(entry: InetSkEntry, session: RestoreSession): Fd {
  let made = datagramSockets.get(session);
  if (made === undefined) {
    const entries = inetEntries(session).filter(({ type }) => type === SOCK_DGRAM);
    made = new Map(entries.map((e) => [e.id, bound(e)]));
    datagramSockets.set(session, made);
    for (const fd of made.values()) session.closeLater(fd);
    for (const e of entries) refillUdp(made.get(e.id) as Fd, e, session);
    for (const e of entries) {
      const fd = made.get(e.id) as Fd;
      const peer = addressOf(e, "dst");
      if (peer !== undefined && e.dst_port !== 0) connect(fd, peer);
      finish(fd, e);
    }
  }
  const fd = made.get(entry.id);
  if (fd === undefined) throw new Error(`internal error: the datagram socket ${entry.id} has not been made`);
  return dupFrom(fd, 0);
}

function finish(fd: Fd, entry: InetSkEntry): void {
  setInetOptions(fd, entry);
  setOptions(fd, entry.opts);
  // Of a connection the state says all.
  const how = entry.type === SOCK_STREAM ? 0 : (entry.shutdown ?? 0);
  if ((how & READ) !== 0) shutdown(fd, 0);
  if ((how & WRITE) !== 0) shutdown(fd, 1);
  setStatusFlags(fd, entry.flags);
}
