/**
 * Making UNIX sockets again: all of a tree at once, since each needs its peer.
 *
 *   make      sockets; pairs of sockets that no listening socket of the tree joined
 *   name      bind and listen, one after the other; connections that were accepted are made while the name is there
 *   fill      queues, through the peer or a socket that stands in for a peer that is gone
 *   finish    shutdown, options, flags; nodes of deleted names go
 */
import { KernelError } from "../../errors.js";
import { AF_UNIX } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { close } from "../../linux/files.js";
import { SOCKET_STATE } from "../../linux/sock-diag.js";
import { SO } from "../../linux/socket-options.js";
import {
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  accept4,
  bind,
  connect,
  getsockname,
  getsockoptInt,
  listen,
  sendmsg,
  shutdown,
  socket,
  socketpair,
} from "../../linux/sockets.js";
import { fileEntry } from "../files/table.schema.js";
import type { Fd, RestoreSession } from "../part.js";
import { liftLimits, setOptions } from "./options.js";
import { type SavedMessage, resend, savedQueues, senderOf } from "./queue.js";
import { type MadeNode, besideName, bindTo, connectTo, isBound, nameKey, unixAddress } from "./unix-names.js";
import type { UnixSkEntry } from "./unix.schema.js";

/** Bit of `uflags`: a socket outside the tree, of which only the name is known. */
export const OUTSIDE = 1;
const SHUT_RD = 0;
const SHUT_WR = 1;
const READ = 1;
const WRITE = 2;
const FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK;

/** A socket being made. */
class Making {
  readonly entry: UnixSkEntry;
  readonly queue: readonly SavedMessage[];
  fd: Fd | undefined;
  /** Its peer among the sockets of the images; for a client that was not accepted yet the listening socket. */
  peer: Making | undefined;
  /** A socket of ours that is connected to this one in place of a true sender that is not there. */
  standIn: Fd | undefined;
  /** Whether socketpair(2) made it. */
  isPaired = false;

  constructor(entry: UnixSkEntry, queue: readonly SavedMessage[]) {
    this.entry = entry;
    this.queue = queue;
  }

  get made(): Fd {
    if (this.fd === undefined) throw new Error(`internal error: the UNIX socket ${this.entry.ino} has not been made`);
    return this.fd;
  }

  get isStream(): boolean {
    return this.entry.type !== SOCK_DGRAM;
  }

  get isListening(): boolean {
    return this.entry.state === SOCKET_STATE.LISTEN;
  }

  get isOutside(): boolean {
    return (this.entry.uflags & OUTSIDE) !== 0;
  }

  get isConnected(): boolean {
    return this.entry.state === SOCKET_STATE.ESTABLISHED;
  }

  /** Whether the peer is connected to this one as well. */
  get isMutual(): boolean {
    return this.peer !== undefined && this.peer.peer === this;
  }
}

/** All UNIX sockets of one restore. */
class World {
  readonly #session: RestoreSession;
  readonly #all: readonly Making[];
  readonly #byId: ReadonlyMap<number, Making>;
  /** Server's ends of connections, by the listening socket that accepts them. */
  readonly #accepted = new Map<Making, Making[]>();
  readonly #nodes = new Map<string, MadeNode>();

  constructor(session: RestoreSession) {
    this.#session = session;
    const queues = savedQueues(session);
    const entries = session.images.records("FILES", [], fileEntry).flatMap(({ value }) => value.usk ?? []);
    this.#all = entries.map((entry) => new Making(entry, queues.get(entry.id) ?? []));
    this.#byId = new Map(this.#all.map((m) => [m.entry.id, m]));
    const byInode = new Map(this.#all.map((m) => [m.entry.ino, m]));
    for (const m of this.#all) m.peer = m.entry.peer === 0 ? undefined : byInode.get(m.entry.peer);
  }

  socket(id: number): Fd {
    const found = this.#byId.get(id);
    if (found === undefined) throw new Error(`internal error: there is no UNIX socket ${id}`);
    return found.made;
  }

  make(): void {
    const ours = this.#all.filter((m) => !m.isOutside);
    for (const m of ours) this.#findListener(m);
    const accepted = new Set([...this.#accepted.values()].flat());
    for (const m of ours)
      if (m.fd === undefined && !accepted.has(m) && !(m.isMutual && m.peer !== undefined && accepted.has(m.peer))) this.#makePair(m);
    for (const m of ours) if (m.fd === undefined && !accepted.has(m)) this.#keep(m, newSocket(m.entry.type));
    const named = ours.filter((m) => isBound(m.entry) && !accepted.has(m));
    // Deleted names first: another socket may have taken the name since.
    for (const m of named.sort((a, b) => Number(b.entry.deleted === true) - Number(a.entry.deleted === true))) this.#name(m);
    for (const m of ours) if (m.isStream) this.#fillStream(m);
    for (const m of ours) if (!m.isStream) this.#fillDatagrams(m);
    for (const m of ours) this.#finish(m);
    for (const node of this.#nodes.values()) node.settle();
    for (const { standIn } of this.#all) if (standIn !== undefined) close(standIn);
  }

  #keep(m: Making, fd: Fd): void {
    m.fd = fd;
    this.#session.closeLater(fd);
    liftLimits(fd);
  }

  /** A connected end with the name of a listening socket of the tree is one that this accepted. */
  #findListener(m: Making): void {
    if (!m.isStream || !m.isConnected || !isBound(m.entry) || m.peer?.isListening === true) return;
    const listeners = this.#all.filter((l) => l.isListening && l.entry.type === m.entry.type && nameKey(l.entry) === nameKey(m.entry));
    const listener = listeners.find((l) => (l.entry.deleted === true) === (m.entry.deleted === true)) ?? listeners[0];
    if (listener === undefined) return;
    // Of two ends with such names one has to be the client.
    if (m.isMutual && [...this.#accepted.values()].some((list) => m.peer !== undefined && list.includes(m.peer))) return;
    this.#accepted.set(listener, [...(this.#accepted.get(listener) ?? []), m]);
  }

  /** Ends that were joined by socketpair(2), or may have been. */
  #makePair(m: Making): void {
    const { peer } = m;
    const isFree = peer !== undefined && peer.fd === undefined && !peer.isOutside;
    const wants = m.isStream
      ? m.isConnected && (m.isMutual || m.entry.peer === 0)
      : // A datagram socket without a name can have got its peer no other way.
        isFree
        ? !isBound(peer.entry)
        : peer === undefined && m.isConnected && !isBound(m.entry);
    if (!wants) return;
    const [one, other] = socketpair({ family: AF_UNIX, type: m.entry.type | FLAGS });
    this.#keep(m, one);
    m.isPaired = true;
    if (isFree) {
      this.#keep(peer, other);
      peer.isPaired = true;
    } else {
      m.standIn = other;
      liftLimits(other);
    }
  }

  #name(m: Making): void {
    const key = nameKey(m.entry);
    this.#nodes.get(key)?.settle();
    this.#nodes.delete(key);
    const node = bindTo(m.made, m.entry, { yields: m.isStream && m.isConnected });
    if (node !== undefined) this.#nodes.set(key, node);
    if (!m.isStream) {
      if (m.queue.length > 0 && !m.isPaired) m.standIn = this.#newStandIn(m);
      return;
    }
    if (!m.isListening) return;
    listen(m.made, m.entry.backlog);
    for (const end of this.#accepted.get(m) ?? []) this.#accept(end, m);
    for (const client of this.#all) if (client.peer === m) connectTo(client.made, m.entry);
  }

  #newStandIn(to: Making): Fd {
    const fd = newSocket(to.entry.type);
    liftLimits(fd);
    connectTo(fd, to.entry);
    return fd;
  }

  /** Makes a connection through a listening socket, so that the server's end has its name. */
  #accept(end: Making, listener: Making): void {
    if (end.isMutual && end.peer !== undefined) connectTo(end.peer.made, listener.entry);
    else end.standIn = this.#newStandIn(listener);
    this.#keep(end, accept4(listener.made, FLAGS));
  }

  #fillStream(m: Making): void {
    const sender = m.isMutual ? m.peer?.fd : m.standIn;
    for (const message of m.queue) if (sender === undefined || !resend(sender, message, { session: this.#session })) throw unfilled(m);
    if (m.standIn !== undefined && m.entry.so_error === ERRNO.ECONNRESET) sendmsg(m.made, Buffer.alloc(1));
  }

  /** Datagrams, each from a socket with the right name where there is one; and the connection, which shuts strangers out. */
  #fillDatagrams(m: Making): void {
    const partner = m.isMutual ? m.peer : undefined;
    // CRIU does not keep who sent what: after the partners met, only they talked to each other.
    const keepsSenders = m.queue.some((message) => message.entry.from !== undefined);
    const fromPartner = (message: SavedMessage) => partner !== undefined && (!keepsSenders || isFrom(message, partner));
    const connectAt = m.isPaired ? 0 : m.queue.findLastIndex((message) => !fromPartner(message)) + 1;
    m.queue.forEach((message, i) => {
      if (i === connectAt) this.#connectDatagram(m);
      if (i >= connectAt && partner !== undefined && !partner.isPaired) this.#connectDatagram(partner);
      if (!this.#refill(m, message, { fromPartner: fromPartner(message) })) throw unfilled(m);
    });
    if (connectAt >= m.queue.length) this.#connectDatagram(m);
  }

  #refill(m: Making, message: SavedMessage, { fromPartner }: { fromPartner: boolean }): boolean {
    const session = this.#session;
    if (fromPartner && !m.isPaired && m.peer !== undefined) return resend(m.peer.made, message, { session });
    if (m.isPaired) {
      const sender = m.standIn ?? (m.isMutual ? m.peer?.fd : this.#all.find((other) => other.peer === m && other.isPaired)?.fd);
      return sender !== undefined && resend(sender, message, { session });
    }
    const from = this.#all.find((other) => !other.isStream && !other.isOutside && isBound(other.entry) && isFrom(message, other));
    if (from !== undefined && this.#isNameThere(m)) return besideName(m.entry, (to) => resend(from.made, message, { session, to }));
    if (from === undefined && senderOf(message) !== undefined)
      this.#session.warn("a queued datagram came from a socket that is closed: it has lost the address of its sender");
    return m.standIn !== undefined && resend(m.standIn, message, { session });
  }

  /** Whether the name leads to this socket and to no other that was named later. */
  #isNameThere(m: Making): boolean {
    return this.#all.findLast((other) => !other.isStream && isBound(other.entry) && nameKey(other.entry) === nameKey(m.entry)) === m;
  }

  #connectDatagram(m: Making): void {
    const { peer } = m;
    if (m.isPaired && (m.isMutual || m.standIn !== undefined)) return;
    if (peer !== undefined) {
      if (!(m.isPaired && peer.isPaired && !isBound(peer.entry))) connectTo(m.made, peer.entry);
    } else if (m.entry.peer_gone === true) {
      const gone = newSocket(m.entry.type);
      bind(gone, unixAddress(new Uint8Array())); // the kernel chooses a name
      connect(m.made, getsockname(gone));
      close(gone);
    } else if (m.isPaired) connect(m.made, { family: "other", number: 0, bytes: Buffer.alloc(2) });
  }

  #finish(m: Making): void {
    const how = m.entry.shutdown ?? 0;
    // The end of a connection whose peer is gone shuts down when the stand-in closes.
    if (how !== 0 && (m.standIn === undefined || !m.isStream)) {
      if ((how & READ) !== 0) shutdown(m.made, SHUT_RD);
      if ((how & WRITE) !== 0) shutdown(m.made, SHUT_WR);
    }
    // Somebody who connected elsewhere meanwhile left an error behind.
    if (!m.isStream) getsockoptInt(m.made, { level: SOL_SOCKET, name: SO.ERROR });
    setOptions(m.made, m.entry.opts);
    setStatusFlags(m.made, m.entry.flags);
  }
}

const newSocket = (type: number) => socket({ family: AF_UNIX, type: type | FLAGS });

function isFrom(message: SavedMessage, sender: Making): boolean {
  const from = senderOf(message);
  if (from === undefined || from.family !== "unix") return false;
  const name = Buffer.from(sender.entry.name);
  return from.name.equals(name[0] === 0 ? name : name.subarray(0, name.indexOf(0) < 0 ? name.length : name.indexOf(0)));
}

function unfilled(m: Making): KernelError {
  return new KernelError({
    call: "sendmsg",
    errno: ERRNO.EAGAIN,
    errnoText: "EAGAIN",
    doing: `filling the queue of UNIX socket ${m.entry.ino}`,
  });
}

const worlds = new WeakMap<RestoreSession, World>();

/** A descriptor of ours for the socket of this entry. */
export function openUnixSocket(entry: UnixSkEntry, session: RestoreSession): Fd {
  let world = worlds.get(session);
  if (world === undefined) {
    world = new World(session);
    worlds.set(session, world);
    world.make();
  }
  return dupFrom(world.socket(entry.id), 0);
}
