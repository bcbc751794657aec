/**
 * Making UNIX sockets again: all of a tree at once, since each needs its peer.
 *
 *   make      sockets; pairs of sockets that no listening socket of the tree joined
 *   name      bind and listen, one after the other; connections that were accepted are made while the name is there
 *   fill      queues, through the peer or a socket that stands in for a peer that is gone
 *   finish    shutdown, options, flags; nodes of deleted names go
 */
import { tmpdir } from "node:os";
import { join } from "../../linux/named-paths.js";
import { mkdtempSync, rmSync } from "../../linux/named-files.js";
import { KernelError } from "../../errors.js";
import { AF_UNIX, encodeAddress } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { close } from "../../linux/files.js";
import { SO } from "../../linux/socket-options.js";
import {
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  accept4,
  bind,
  connect,
  getsockname,
  getsockoptInt,
  listen,
  recvUrgent,
  sendmsg,
  shutdown,
  socket,
  socketpair,
} from "../../linux/sockets.js";
import { inheritedFd } from "../files/inherit.js";
import { fileEntry } from "../files/table.schema.js";
import type { Fd, RestoreSession } from "../part.js";
import { liftLimits, setOptions } from "./options.js";
import { type SavedMessage, resend, savedQueues, senderOf } from "./queue.js";
import { type MadeNode, besideName, bindTo, connectTo, isBound, nameKey, unixAddress } from "./unix-names.js";
import { savedBacklog } from "./unix-backlog.js";
import { Donors, peerKey } from "./unix-donors.js";
import { type Connection, Making } from "./unix-making.js";
import type { FloeUnixPeer, UnixSkEntry } from "./unix.schema.js";

const SHUT_RD = 0;
const SHUT_WR = 1;
const READ = 1;
const WRITE = 2;
const FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK;
/** Connections made by one program: no more than any limit of a backlog (net.core.somaxconn) allows. */
const AT_ONCE = 64;

/** All UNIX sockets of one restore. */
class World {
  readonly #session: RestoreSession;
  readonly #donors: Donors;
  readonly #all: readonly Making[];
  readonly #byId: ReadonlyMap<number, Making>;
  /** Server's ends of connections, by the listening socket that accepts them. */
  readonly #accepted = new Map<Making, Making[]>();
  readonly #nodes = new Map<string, MadeNode>();
  /** What clients send over connections that are not accepted; `isOurs`: a stand-in for one that is gone. */
  readonly #sent: { fd: Fd; isOurs: boolean; queue: readonly SavedMessage[]; to: Making }[] = [];
  /** Stand-ins for senders of datagrams that are closed, by their names. */
  readonly #goneSenders = new Map<string, Fd>();
  /** What has to go when they are closed: nodes of their names. */
  readonly #lent: MadeNode[] = [];

  constructor(session: RestoreSession) {
    this.#session = session;
    this.#donors = new Donors(session);
    const queues = savedQueues(session);
    const entries = session.images.records("FILES", [], fileEntry).flatMap(({ value }) => value.usk ?? []);
    const given = (entry: UnixSkEntry) => inheritedFd(session, `socket:[${entry.ino}]`) !== undefined;
    this.#all = entries.map((entry) => new Making(entry, queues.get(entry.id) ?? [], given(entry)));
    this.#byId = new Map(this.#all.map((m) => [m.entry.id, m]));
    const byInode = new Map(this.#all.map((m) => [m.entry.ino, m]));
    for (const m of this.#all) {
      const peer = m.entry.peer === 0 ? undefined : byInode.get(m.entry.peer);
      // Where one end is handed over, the other has lost its peer.
      m.peer = peer?.isGiven === true ? undefined : peer;
      m.lostPeer = peer?.isGiven === true;
    }
  }

  readonly #hold = (pid: number): void => this.#donors.hold(pid);

  socket(id: number): Fd {
    const found = this.#byId.get(id);
    if (found === undefined) throw new Error(`internal error: there is no UNIX socket ${id}`);
    return found.made;
  }

  make(): void {
    try {
      this.#makeAll(this.#all.filter((m) => !m.isOutside && !m.isGiven));
    } finally {
      this.#donors.close();
    }
  }

  #makeAll(ours: readonly Making[]): void {
    for (const m of ours) this.#findListener(m);
    const stands = this.#addStands(ours);
    const accepted = new Set([...this.#accepted.values()].flat());
    this.#makePairs(ours.filter((m) => !accepted.has(m) && !(m.isMutual && m.peer !== undefined && accepted.has(m.peer))));
    for (const m of [...ours, ...stands]) if (m.fd === undefined && !accepted.has(m)) this.#keep(m, newSocket(m.entry.type));
    const named = [...ours, ...stands].filter((m) => isBound(m.entry) && !accepted.has(m));
    // Deleted names first: another socket may have taken the name since.
    for (const m of named.sort((a, b) => Number(b.entry.deleted === true) - Number(a.entry.deleted === true))) this.#name(m);
    for (const m of ours) if (m.isStream && m.isConnected && m.peer?.isOutside === true) this.#connectOutside(m, m.peer);
    this.#sendToUnaccepted();
    for (const m of ours) if (m.isStream) this.#fillStream(m);
    for (const m of ours) if (!m.isStream) this.#fillDatagrams(m);
    for (const m of ours) this.#finish(m);
    for (const node of this.#nodes.values()) node.settle();
    for (const fd of this.#goneSenders.values()) close(fd);
    for (const node of this.#lent.reverse()) node.settle();
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

  /**
   * Listening sockets in place of those that are gone: two ends whose makers differ were joined through one, and the end with
   * the name is the one it accepted.
   */
  #addStands(ours: readonly Making[]): Making[] {
    const stands = new Map<string, Making>();
    const taken = new Set([...this.#accepted.values()].flat());
    for (const m of ours) {
      const { peer } = m;
      if (!m.isStream || !m.isConnected || !isBound(m.entry) || !m.isMutual || peer === undefined || taken.has(m) || taken.has(peer))
        continue;
      if (peerKey(m.entry.peercred) === peerKey(peer.entry.peercred)) continue;
      const key = `${m.entry.type}:${nameKey(m.entry)}`;
      let stand = stands.get(key);
      if (stand === undefined) {
        stand = Making.standing(m, peer.entry.peercred);
        stands.set(key, stand);
      }
      this.#accepted.set(stand, [...(this.#accepted.get(stand) ?? []), m]);
      taken.add(m);
    }
    return [...stands.values()];
  }

  /** Ends that were joined by socketpair(2), or may have been. */
  #makePairs(candidates: readonly Making[]): void {
    const pairs = new Map<string, Pair[]>();
    const seen = new Set<Making>();
    for (const m of candidates) {
      const { peer } = m;
      const isFree = peer !== undefined && !seen.has(peer) && !peer.isOutside;
      if (seen.has(m) || !isOfPair(m, isFree)) continue;
      const maker = m.entry.peercred ?? (isFree ? peer.entry.peercred : undefined);
      const key = `${m.entry.type}/${peerKey(maker)}`;
      pairs.set(key, [...(pairs.get(key) ?? []), { m, peer: isFree ? peer : undefined, maker }]);
      seen.add(m);
      if (isFree) seen.add(peer);
    }
    for (const alike of pairs.values()) {
      const { m, maker } = alike[0] as Pair;
      const made =
        maker === undefined
          ? alike.map(() => socketpair({ family: AF_UNIX, type: m.entry.type | FLAGS }))
          : this.#donors.pairs(maker, m.entry.type, alike.length);
      alike.forEach((pair, i) => this.#keepPair(pair, made[i] as [Fd, Fd]));
    }
  }

  #keepPair({ m, peer }: Pair, [one, other]: readonly [Fd, Fd]): void {
    this.#keep(m, one);
    m.isPaired = true;
    if (peer === undefined) {
      m.standIn = other;
      liftLimits(other);
    } else {
      this.#keep(peer, other);
      peer.isPaired = true;
    }
  }

  #name(m: Making): void {
    const key = nameKey(m.entry);
    this.#nodes.get(key)?.settle();
    this.#nodes.delete(key);
    const node = bindTo(m.made, m.entry, { yields: m.isStand || (m.isStream && m.isConnected) });
    if (node !== undefined) this.#nodes.set(key, node);
    if (m.isListening) this.#serve(m);
    else if (!m.isStream && m.queue.length > 0 && !m.isPaired) m.standIn = this.#newStandIn(m);
  }

  /** Listens, and joins the clients: those that were accepted, then those that wait, in their order. */
  #serve(m: Making): void {
    const connections: Connection[] = [
      ...(this.#accepted.get(m) ?? []).map((end) => ({
        end,
        client: end.isMutual ? end.peer : undefined,
        connector: end.entry.peercred,
        listener: (end.isMutual ? end.peer?.entry.peercred : undefined) ?? m.entry.peercred,
      })),
      ...this.#waitingAt(m),
    ];
    let listens: string | undefined;
    while (connections.length > 0) {
      const [first] = connections as [Connection];
      const differs = (one: Connection) =>
        peerKey(one.connector) !== peerKey(first.connector) ||
        peerKey(one.listener) !== peerKey(first.listener) ||
        (one.end === undefined) !== (first.end === undefined);
      const end = connections.findIndex((one, i) => i === AT_ONCE || differs(one));
      if (listens !== peerKey(first.listener)) this.#listen(m, first.listener, Math.max(m.entry.backlog, AT_ONCE));
      listens = peerKey(first.listener);
      connections.splice(0, this.#join(m, connections.slice(0, end < 0 ? undefined : end)));
    }
    this.#listen(m, m.entry.peercred, m.entry.backlog);
  }

  /** Connections that are not accepted, in their order. */
  #waitingAt(m: Making): Connection[] {
    const order = (client: Making) => m.entry.pending.indexOf(client.entry.ino);
    const clients = this.#all.filter((client) => client.peer === m).sort((a, b) => order(a) - order(b));
    const listenerOf = (client: Making | undefined) => client?.entry.peercred ?? m.entry.peercred;
    if (m.entry.backlog_apart !== true)
      return clients.map((client) => ({ end: undefined, client, connector: client.entry.connector, listener: listenerOf(client) }));
    return savedBacklog(m.entry, this.#session).map((waiting) => {
      const client = clients.find(({ entry }) => entry.ino === waiting.entry.client);
      return { end: undefined, client, connector: waiting.entry.connector, listener: listenerOf(client), waiting };
    });
  }

  #listen(m: Making, name: FloeUnixPeer | undefined, backlog: number): void {
    if (name === undefined) listen(m.made, backlog);
    else this.#donors.listen(name, m.made, backlog);
  }

  /** Makes connections that are alike; returns how many. */
  #join(m: Making, alike: readonly Connection[]): number {
    const clients = alike.map(({ client, end, waiting }) => {
      if (client !== undefined) return client.made;
      const standIn = newSocket(m.entry.type);
      liftLimits(standIn);
      if (end !== undefined) end.standIn = standIn;
      else if (waiting?.entry.name !== undefined) this.#lendName(standIn, m.entry, waiting.entry.name);
      return standIn;
    });
    const connector = alike[0]?.connector;
    let joined = clients.length;
    if (connector !== undefined) joined = this.#donors.connect(connector, clients, m.entry);
    else for (const fd of clients) connectTo(fd, m.entry);
    alike.forEach(({ client, end, waiting }, i) => {
      const fd = clients[i] as Fd;
      if (i >= joined) {
        if (client === undefined) close(fd);
        if (end !== undefined) end.standIn = undefined;
      } else if (end !== undefined) this.#keep(end, accept4(m.made, FLAGS));
      else if (waiting !== undefined) this.#sent.push({ fd, isOurs: client === undefined, queue: waiting.queue, to: m });
    });
    return joined;
  }

  /** A server outside the tree gets a new connection in place of the old one. */
  #connectOutside(m: Making, server: Making): void {
    const { connector } = m.entry;
    if (connector === undefined) connectTo(m.made, server.entry);
    else this.#donors.connect(connector, [m.made], server.entry);
    if (m.queue.length > 0) this.#session.warn(`what waited in UNIX socket ${m.entry.ino} is lost: its peer outside is connected anew`);
  }

  /** A stand-in for a sender that is closed; it has its name. */
  #goneSender(like: UnixSkEntry, name: Uint8Array): Fd {
    const key = Buffer.from(name).toString("latin1");
    const known = this.#goneSenders.get(key);
    if (known !== undefined) return known;
    const fd = newSocket(like.type);
    liftLimits(fd);
    this.#goneSenders.set(key, fd);
    this.#lendName(fd, like, name);
    return fd;
  }

  /** Gives the stand-in of a client that is gone its name, which goes when it closes. */
  #lendName(standIn: Fd, like: UnixSkEntry, name: Uint8Array): void {
    // It is given anywhere: the server sees its bytes and nothing more.
    const place = mkdtempSync(join(tmpdir(), "floe-name-"));
    const { file_perms: _, ...entry } = { ...like, name, node: join(place, "node"), deleted: true };
    try {
      const node = bindTo(standIn, entry, { yields: true });
      this.#lent.push({ settle: () => rmSync(place, { recursive: true, force: true }) });
      if (node !== undefined) this.#lent.push(node);
    } catch (error) {
      rmSync(place, { recursive: true, force: true });
      this.#session.warn(`a client or sender of a UNIX socket that is gone lost its name: ${(error as Error).message}`);
    }
  }

  /** What clients have sent that were not accepted; those that are gone close. */
  #sendToUnaccepted(): void {
    for (const { fd, isOurs, queue, to } of this.#sent) {
      for (const message of queue) if (!resend(fd, message, { session: this.#session, hold: this.#hold })) throw unfilled(to);
      if (isOurs) close(fd);
    }
  }

  #newStandIn(to: Making): Fd {
    const fd = newSocket(to.entry.type);
    liftLimits(fd);
    connectTo(fd, to.entry);
    return fd;
  }

  #fillStream(m: Making): void {
    if (m.peer?.isOutside === true) return;
    const sender = m.isMutual ? m.peer?.fd : m.standIn;
    for (const message of m.queue) {
      const isMark = message.entry.urgent === true && message.data.length === 0;
      const sent = isMark ? { entry: message.entry, data: Buffer.alloc(1) } : message;
      if (sender === undefined || !resend(sender, sent, { session: this.#session, hold: this.#hold })) throw unfilled(m);
      if (isMark) recvUrgent(m.made);
    }
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
    const hold = this.#hold;
    if (fromPartner && !m.isPaired && m.peer !== undefined) return resend(m.peer.made, message, { session, hold });
    if (m.isPaired) {
      const sender = m.standIn ?? (m.isMutual ? m.peer?.fd : this.#all.find((other) => other.peer === m && other.isPaired)?.fd);
      return sender !== undefined && resend(sender, message, { session, hold });
    }
    const from = this.#all.find((other) => !other.isStream && !other.isOutside && isBound(other.entry) && isFrom(message, other));
    if (from !== undefined && this.#isNameThere(m)) return besideName(m.entry, (to) => resend(from.made, message, { session, to, hold }));
    const gone = from === undefined ? senderOf(message) : undefined;
    if (gone?.family === "unix" && this.#isNameThere(m)) {
      const sender = this.#goneSender(m.entry, encodeAddress(gone).subarray(2));
      return besideName(m.entry, (to) => resend(sender, message, { session, to, hold }));
    }
    return m.standIn !== undefined && resend(m.standIn, message, { session, hold });
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

/** Two ends to be made by one socketpair(2), the other one's place taken by a stand-in if it is gone. */
interface Pair {
  readonly m: Making;
  readonly peer: Making | undefined;
  readonly maker: FloeUnixPeer | undefined;
}

function isOfPair(m: Making, isPeerFree: boolean): boolean {
  const { peer } = m;
  if (m.isStream) return m.isConnected && (m.isMutual || m.entry.peer === 0 || m.lostPeer);
  // A datagram socket without a name can have got its peer no other way.
  return isPeerFree ? peer !== undefined && !isBound(peer.entry) : peer === undefined && m.isConnected && !isBound(m.entry);
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
