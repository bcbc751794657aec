/**
 * IPv4 and IPv6 sockets: UDP and UDP-Lite with what has arrived; raw and ping sockets; TCP that listens, is connected, or is not.
 *
 * Read from   getsockopt(2), getsockname(2), getpeername(2), TCP_INFO; queues by MSG_PEEK
 * Made with   socket(2), bind(2), connect(2), listen(2); queued datagrams are sent again from the address they came from
 */
import { closeSync } from "node:fs";
import { KernelError, Refusal } from "../../errors.js";
import { AF_INET, type SocketAddress } from "../../linux/addresses.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { SOCKET_STATE, inetPeers } from "../../linux/sock-diag.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO, setLinger } from "../../linux/socket-options.js";
import { SOCK_STREAM, SOL_SOCKET, bind, connect, getpeername, getsockname, listen, pollOnce, setsockoptInt } from "../../linux/sockets.js";
import { type TcpInfo, tcpInfo } from "../../linux/tcp.js";
import { POLLERR, POLLRDHUP } from "../../linux/streams.js";
import { namespaceIds } from "../namespaces/ids.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import { type InetKind, readInetOptions } from "./inet-options.js";
import { askSocket, socketKindOf } from "./asked.js";
import type { InetSkEntry } from "./inet.schema.js";
import { checkInet } from "./inet-check.js";
import { addressOf, inetEntries, placed, placeFields } from "./inet-address.js";
import { isOfOtherNetns, readOptions, unreadableOption } from "./options.js";
import { titleOf } from "./other.js";
import { datagramState, openDatagram, saveDatagrams } from "./datagram.js";
import { readMemberships } from "./memberships.js";
import { BOTH, IPPROTO_MPTCP, bound, finish, isCarried, isOver, isTcp, isUdp, plain, shutDown } from "./inet-socket.js";
import { isPing, isRaw, listed, peerOfListed } from "./raw.js";
import {
  forgetConnection,
  liftLocks,
  hasConnection,
  makeConnection,
  makeRemains,
  saveConnection,
  saveRemains,
  startConnection,
} from "./tcp-connection.js";
import { refuseUnreadable } from "./tcp-refused.js";
import { type Fate, asOver, fateAtDump, fateAtRestore } from "./tcp-policy.js";
import { byReuseportIndex, readUnseen } from "./unseen-options.js";
import { TCP_STATE, isConnection } from "./tcp-states.js";

const O_NONBLOCK = 0o4000;

export const inetSockets: FileKind<InetSkEntry> = {
  name: "sockets/inet",
  rows: [
    "sk.opts-generic",
    "sk.udp",
    "sk.raw-icmp",
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
  isPathless: true,
  matches: (file) => file.link.startsWith("socket:[") && isCarried(socketKindOf(file)),
  dump: (file, session) => dumpInet(file, session),
  open: (entry, session) => openInet(entry, session),
  finish(entry, { session }) {
    tellEnd(entry, session);
    return undefined;
  },
  check: (entry, session, use) => checkInet(entry, session, use),
  outside: { names: ({ ino }) => [`socket:[${ino}]`], flags: ({ flags }) => flags },
};

type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

function dumpInet(file: OpenFile, session: DumpSession): InetSkEntry | undefined {
  const { local } = file;
  const kind = socketKindOf(file);
  const asked = askSocket(local, kind, session);
  const own = getsockname(local);
  const tcp = isTcp(kind) ? tcpInfo(local) : undefined;
  const now = tcp?.state;
  const peer = peerOf(file, { kind, own, now });
  const title = () => titleOf(kind, { own, peer, isListening: now === SOCKET_STATE.LISTEN });
  const process = { pid: file.task.traced.pid, comm: file.task.comm };
  const stop: Stop = (code, because, ...remedy) =>
    session.refuse(new Refusal({ code, process, resource: `fd ${file.fd}, ${title()}`, because, remedy }));
  if (isOfOtherNetns(local, { asked, session }))
    stop(
      "SOCKET_OTHER_NETNS",
      "it belongs to another network namespace than its process",
      "Make sockets in the namespace where they are used",
    );
  const unreadable = unreadableOption(local, asked);
  if (unreadable !== undefined) stop("SOCKET_OPTION_UNREADABLE", unreadable, "Take the filter off before the dump");
  if (kind.proto === IPPROTO_MPTCP && now !== undefined && now !== SOCKET_STATE.LISTEN && now !== SOCKET_STATE.CLOSE) {
    stop(
      "SOCKET_UNSUPPORTED",
      "Multipath TCP (MPTCP) has no way to read or set what a connection consists of",
      "Let the program use plain TCP, as with sysctl net.mptcp.enabled=0",
      "Let the program close the connection before the dump",
    );
    return undefined;
  }
  const fate = now !== undefined && isUnderWay(now) ? fateAtDump(own, peer, session) : undefined;
  const isConnected = peer !== undefined;
  if (tcp !== undefined && fate !== "close" && fate !== "reset") refuseUnreadable(file, { asked, title, session, stop });
  const state =
    tcp === undefined ? datagramState(file, { kind, stop, session, isConnected }) : tcpState(tcp, { fd: local, session, stop, fate });
  const isFresh = tcp === undefined || (now === state.state && state.shutdown === undefined && !isConnection(tcp.state));
  const readInet = () => readInetOptions(local, kind, { isFresh, asked });
  const inetOptions = tcp === undefined ? readInet() : asked.made(`inet ${isFresh}`, readInet);
  const entry: InetSkEntry = {
    id: file.id,
    ino: Number(file.stat.ino),
    family: kind.family,
    type: kind.type,
    proto: kind.proto,
    flags: file.info.flags,
    fown: file.fown,
    opts: readOptions(local, kind, asked),
    ns_id: namespaceIds(file.task.traced).net_ns_id,
    ...state,
    ...placeFields("src", own, kind.family),
    ...placeFields("dst", peer, kind.family),
    ...inetOptions,
  } as InetSkEntry;
  Object.assign(entry, readUnseen(file, { kind, stop, session }));
  if (kind.type !== SOCK_STREAM) entry.memberships = readMemberships(local, { family: kind.family, session, task: file.task });
  if (own.family === "inet6" && own.scopeId !== 0) entry.scope_id = own.scopeId;
  if (isUdp(kind)) saveDatagrams(file, { family: kind.family, hasError: entry.so_error !== undefined }, session);
  else if (isConnection(entry.state) && fate === "keep") saveConnection(file, entry, { session, stop });
  else if (isOver(entry) && bytesToRead(local) > 0) saveRemains(file, entry, session);
  if (fate === "reset") breakOffLater(local, session);
  return entry;
}

function peerOf(
  file: OpenFile,
  { kind, own, now }: { kind: InetKind; own: SocketAddress; now: number | undefined },
): SocketAddress | undefined {
  if (now === TCP_STATE.SYN_SENT) return askedPeer(kind, Number(file.stat.ino));
  if (isRaw(kind) || isPing(kind)) {
    const known = listed(file, kind);
    return known === undefined ? undefined : peerOfListed(known, own);
  }
  try {
    return getpeername(file.local);
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
  { state, backlog }: TcpInfo,
  { fd, session, stop, fate }: { fd: Fd; session: DumpSession; stop: Stop; fate: Fate | undefined },
): Pick<InetSkEntry, "state" | "backlog"> & Partial<Pick<InetSkEntry, "shutdown" | "broken_off">> {
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
    stop(
      "TCP_CLOSING",
      `its connection is in ${state === TCP_STATE.SYN_RECV ? "the state SYN_RECV (TCP_FASTOPEN)" : `the unknown state ${state}`}`,
      "Wait until the other end has confirmed the connection, or let it come to its end first",
    );
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

function openInet(entry: InetSkEntry, session: RestoreSession): Fd {
  return entry.type === SOCK_STREAM ? openStream(entry, session) : openDatagram(entry, session);
}

const streamSockets = new WeakMap<RestoreSession, Map<number, Fd>>();

/** All TCP sockets of a restore: those that listen first; connections stay silent until the last is made. */
function openStream(entry: InetSkEntry, session: RestoreSession): Fd {
  let made = streamSockets.get(session);
  if (made === undefined) {
    made = new Map();
    streamSockets.set(session, made);
    const entries = byReuseportIndex(inetEntries(session))
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
    if (connections.length > 0) liftLocks(connections, session);
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
    const made = makeConnection(fd, entry, session);
    liftLocks([made], session);
    startConnection(made);
    if (fate === "reset") setLinger(fd, 0);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    forgetConnection(entry, session);
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

/** A look that takes nothing away: whether nothing more can come, and whether an error waits for the program. */
function pollNow(fd: Fd): { isOver: boolean; hasError: boolean } {
  const events = pollOnce(fd, POLLRDHUP);
  return { isOver: (events & POLLRDHUP) !== 0, hasError: (events & POLLERR) !== 0 };
}
