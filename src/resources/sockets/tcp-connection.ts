/**
 * TCP connections, established or on their way to the end: sequence numbers, both queues, windows, what was agreed on.
 *
 * Read from   repair mode (TCP_REPAIR), TCP_INFO
 * Made with   repair mode; connect(2) in it sends nothing
 *
 * While a connection is dumped, and until it is restored, its segments are held back by nftables, unless the other end is
 * in the tree as well. A socket that is closed in repair mode says nothing to the other end.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import type { SocketAddress } from "../../linux/addresses.js";
import { inventoryEntry } from "../../images/inventory.schema.js";
import { IptablesError } from "../../linux/iptables.js";
import { dupFrom } from "../../linux/fcntl.js";
import type { Connection, TcpEnd } from "../../linux/nft-sets.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO } from "../../linux/socket-options.js";
import {
  MSG_DONTWAIT,
  MSG_PEEK,
  SOL_SOCKET,
  bind,
  connect,
  getsockname,
  getsockoptInt,
  recvmsg,
  setsockopt,
  shutdown,
} from "../../linux/sockets.js";
import { TCP_QUEUE, setAgreed, setQueueSequence, setRepair, setTimestamp, setWindow, writeQueue } from "../../linux/tcp.js";
import { afterFiles } from "../files/table.js";
import type { DumpSession, Fd, OpenFile, RestoreSession } from "../part.js";
import { addressOf, unmapped } from "./inet-address.js";
import type { InetSkEntry } from "./inet.schema.js";
import { isTcp } from "./inet-socket.js";
import {
  type Ending,
  TCP_STATE,
  isConnection,
  hasHeardEnd,
  hasSaidEnd,
  hearConfirmation,
  hearEnd,
  hearReset,
  heardFirst,
} from "./tcp-states.js";
import { lock, lockId, unlockAtRestore } from "./lock.js";
import { liftLimits } from "./options.js";
import { type Reading, readConnections } from "./tcp-reading.js";
import { type TcpStreamEntry, tcpStreamEntry } from "./tcp.schema.js";

type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

function endOf(entry: InetSkEntry, which: "src" | "dst"): TcpEnd {
  return endOfAddress(addressOf(entry, which));
}

function endOfAddress(address: SocketAddress | undefined): TcpEnd {
  if (address?.family !== "inet" && address?.family !== "inet6") throw new Error("internal error: a connection has no address");
  return { address: unmapped(address.address), port: address.port };
}

const WRITE = 1;
/** A port where nobody is; nothing is sent there. */
const NOBODY = 1;
const FIRST_NUMBER = 1000;
const endText = ({ address, port }: TcpEnd) => `${address.toString("hex")}:${port}`;

/** A connection that is saved when all of the tree are known. */
interface Saving extends Connection {
  readonly reading: Reading;
  readonly stop: Stop;
}

const savings = new WeakMap<DumpSession, Saving[]>();

/** Saves a connection when all of the tree are known. */
export function saveConnection(file: OpenFile, entry: InetSkEntry, { session, stop }: { session: DumpSession; stop: Stop }): void {
  let all = savings.get(session);
  if (all === undefined) {
    const made: Saving[] = [];
    all = made;
    savings.set(session, made);
    // All stay open until the tree is released, or dead: then ours is the last descriptor, and in repair mode its end is a silent one.
    session.takeBack(() => {
      for (const { reading } of made) closeSync(reading.local);
    });
    session.afterDeath(() => {
      for (const { reading } of made) {
        setRepair(reading.local, "on");
        closeSync(reading.local);
      }
    });
    afterFiles(session, () => saveConnections(made, session));
  }
  const { task, fd, isInFlight } = file;
  const reading: Reading = {
    holder: { task, fd, ...(isInFlight === undefined ? {} : { isInFlight }) },
    local: dupFrom(file.local, 0),
    sharesAddress: entry.opts.reuseaddr === true,
    state: entry.state,
    take: (stream) => session.images.append("TCP_STREAM", [entry.ino], { type: tcpStreamEntry, ...stream }),
  };
  all.push({ here: endOf(entry, "src"), there: endOf(entry, "dst"), reading, stop });
}

/** The connections among the entries whose other end is not: those that are held back until the restore. */
export function connectionsOutward(entries: readonly InetSkEntry[]): Connection[] {
  const all = entries
    .filter((entry) => isTcp(entry) && isConnection(entry.state))
    .map((entry) => ({ here: endOf(entry, "src"), there: endOf(entry, "dst") }));
  const known = new Set(all.map(({ here, there }) => `${endText(here)}-${endText(there)}`));
  return all.filter(({ here, there }) => !known.has(`${endText(there)}-${endText(here)}`));
}

function saveConnections(savings: readonly Saving[], session: DumpSession): void {
  const known = new Set(savings.map(({ here, there }) => `${endText(here)}-${endText(there)}`));
  const isLocked = session.options.networkLock !== "skip";
  const held = savings.filter(({ here, there, stop }) => {
    const isInside = known.has(`${endText(there)}-${endText(here)}`);
    return !isLocked || holdBack({ here, there }, { session, stop, isInside, all: savings });
  });
  readConnections(
    held.map(({ reading }) => reading),
    session,
  );
}

function holdBack(
  connection: Connection,
  { session, stop, isInside, all }: { session: DumpSession; stop: Stop; isInside: boolean; all: readonly Connection[] },
): boolean {
  try {
    lock(connection, { session, isLasting: !isInside, all });
    return true;
  } catch (error) {
    if (error instanceof IptablesError) {
      stop(
        "NETWORK_LOCK_FAILED",
        `its segments cannot be held back by iptables: ${error.message}`,
        error.isMissing ? 'Install iptables (Debian\'s package "iptables")' : "Mend the rules of iptables",
        "Use --network-lock nftables, which needs no program",
      );
      return false;
    }
    if (!(error instanceof KernelError)) throw error;
    // Both ends stand still, so next to nothing is sent anyway.
    if (isInside) return true;
    stop(
      "NETWORK_LOCK_FAILED",
      `its segments cannot be held back: ${error.message}`,
      "Hold the traffic back yourself and give --network-lock skip",
      "Run Floe with CAP_NET_ADMIN on a kernel with nftables",
    );
    return false;
  }
}

/** A connection being made: in repair mode until all are. */
export interface MadeConnection extends Ending {
  readonly entry: InetSkEntry;
  /** What had been written but not sent. */
  readonly unsent: Buffer;
}

/** Makes a connection in repair mode on a fresh socket. */
export function makeConnection(fd: Fd, entry: InetSkEntry, session: RestoreSession): MadeConnection {
  const record = session.images.records("TCP_STREAM", [entry.ino], tcpStreamEntry, (e) => e.inq_len + e.outq_len)[0];
  const [own, peer] = [addressOf(entry, "src"), addressOf(entry, "dst")];
  if (record === undefined || own === undefined || peer === undefined) throw new Error("internal error: a connection was not checked");
  const { value, extra } = record;
  const { state } = entry;
  setRepair(fd, "on");
  setQueueSequence(fd, TCP_QUEUE.receive, value.inq_seq - value.inq_len - Number(hasHeardEnd(state)));
  setQueueSequence(fd, TCP_QUEUE.send, value.outq_seq - value.outq_len - Number(hasSaidEnd(state)));
  bind(fd, own);
  connect(fd, peer);
  setAgreed(fd, {
    agreed: value.opt_mask,
    sendScale: value.snd_wscale,
    receiveScale: value.rcv_wscale ?? 0,
    segmentLimit: value.mss_clamp,
  });
  if (value.timestamp !== undefined) setTimestamp(fd, value.timestamp);
  liftLimits(fd);
  const sentEnd = value.inq_len + value.outq_len - (value.unsq_len ?? 0);
  const rest = [
    ...writeQueue(fd, TCP_QUEUE.receive, extra.subarray(0, value.inq_len)),
    ...writeQueue(fd, TCP_QUEUE.send, extra.subarray(value.inq_len, sentEnd)),
  ];
  if (rest.length > 0)
    throw new KernelError({ call: `sendmsg(${fd})`, errno: 11, errnoText: "EAGAIN", doing: "filling the queues of a TCP connection" });
  const { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = value;
  if (snd_wl1 !== undefined && snd_wnd !== undefined && max_window !== undefined && rcv_wnd !== undefined && rcv_wup !== undefined) {
    // The peer's end of stream has not been heard yet.
    const heard = Number(hasHeardEnd(state));
    const isIpv4 = own.family === "inet" || (own.family === "inet6" && unmapped(own.address).length === 4);
    const sent = isIpv4 ? { snd_wnd, max_window } : smaller(snd_wnd);
    setWindow(fd, { snd_wl1: snd_wl1 - heard, ...sent, rcv_wnd, rcv_wup: rcv_wup - heard });
    if (isIpv4) setsockopt(fd, IP_OPTIONS, Buffer.alloc(0));
  }
  return { fd, entry, state, value, own: endOf(entry, "src"), peer: endOf(entry, "dst"), unsent: extra.subarray(sentEnd) };
}

/**
 * The size of segments has been computed before anything of what it follows from was set, and is that of a host of which nothing is known
 * (536 bytes). It is computed anew when options of IP are set; with IPv6 only when a window comes that is larger than any before, as the
 * answer to the probe that ends the repair brings it then.
 */
const IP_OPTIONS = { level: 0, name: 4 };

function smaller(snd_wnd: number): { snd_wnd: number; max_window: number } {
  const less = Math.max(0, snd_wnd - 1);
  return { snd_wnd: less, max_window: less };
}

/** network_lock_method of the inventory. */
const BY_IPTABLES = 1;

/** Whether the dump has held connections back by rules of iptables; a restore lifts no others then. */
export const isByIptables = ({ images }: Pick<RestoreSession, "images">): boolean =>
  images.single("INVENTORY", [], inventoryEntry).network_lock_method === BY_IPTABLES;

type Ends = Pick<Ending, "own" | "peer">;

/** Lifts the locks of connections that may talk within moments; each lock alone would take 15 ms. */
export function liftLocks(ends: readonly Ends[], session: RestoreSession): void {
  try {
    unlockAtRestore(
      ends.map(({ own, peer }) => lockId(own, peer)),
      isByIptables(session),
    );
  } catch (error) {
    // Without nftables there is no lock either.
    if (!(error instanceof KernelError)) throw error;
  }
}

/** Takes away what is left of a connection that is not made again. */
export function forgetConnection(entry: InetSkEntry, session: RestoreSession): void {
  liftLocks([{ own: endOf(entry, "src"), peer: endOf(entry, "dst") }], session);
}

/** Lets a connection talk again: all that it needs exists, and nothing is held back any more ({@link liftLocks}). */
export function startConnection(made: MadeConnection): void {
  const { fd, state, unsent } = made;
  // What the peer has said already it says again; our own end is told in silence, unless data has to go before it.
  const isSilent = unsent.length === 0;
  if (heardFirst(state)) hearEnd(made);
  if (hasSaidEnd(state) && isSilent) shutdown(fd, WRITE);
  if (state === TCP_STATE.CLOSING && isSilent) hearEnd(made);
  if (state === TCP_STATE.FIN_WAIT2) hearConfirmation(made);
  setRepair(fd, "off");
  if (writeQueue(fd, undefined, unsent).length > 0)
    throw new KernelError({ call: `sendmsg(${fd})`, errno: 11, errnoText: "EAGAIN", doing: "sending what a TCP connection had not sent" });
  if (isSilent) return;
  if (hasSaidEnd(state)) shutdown(fd, WRITE);
  if (state === TCP_STATE.CLOSING) hearEnd(made);
}

/** Saves what can still be read from a socket whose connection is over. */
export function saveRemains(file: OpenFile, entry: InetSkEntry, session: DumpSession): void {
  const data = recvmsg(file.local, { maxBytes: bytesToRead(file.local), flags: MSG_PEEK | MSG_DONTWAIT })?.data ?? Buffer.alloc(0);
  const sizes = { inq_len: data.length, inq_seq: data.length, outq_len: 0, outq_seq: 0 };
  const value: TcpStreamEntry = { ...sizes, opt_mask: 0, snd_wscale: 0, mss_clamp: 536 };
  session.images.append("TCP_STREAM", [entry.ino], { type: tcpStreamEntry, value, extra: data });
}

/**
 * Makes a socket whose connection is over, with what can still be read from it: by a connection to nobody that is broken off.
 * `local`: an address of its own for it.
 */
export function makeRemains(fd: Fd, entry: InetSkEntry, local: SocketAddress, session: RestoreSession): void {
  const [record] = session.images.records("TCP_STREAM", [entry.ino], tcpStreamEntry, (e) => e.inq_len + e.outq_len);
  if (local.family !== "inet" && local.family !== "inet6") throw new Error("internal error: a connection has no address");
  const data = record?.extra.subarray(0, record.value.inq_len) ?? Buffer.alloc(0);
  const nobody = { ...local, port: local.port === NOBODY ? NOBODY + 1 : NOBODY };
  setRepair(fd, "on");
  setQueueSequence(fd, TCP_QUEUE.receive, FIRST_NUMBER);
  setQueueSequence(fd, TCP_QUEUE.send, FIRST_NUMBER);
  bind(fd, local);
  connect(fd, nobody);
  liftLimits(fd);
  if (writeQueue(fd, TCP_QUEUE.receive, data).length > 0)
    throw new KernelError({
      call: `sendmsg(${fd})`,
      errno: 11,
      errnoText: "EAGAIN",
      doing: "filling the queue of a closed TCP connection",
    });
  const value: TcpStreamEntry = {
    ...{ inq_len: data.length, inq_seq: FIRST_NUMBER + data.length, outq_len: 0, outq_seq: FIRST_NUMBER },
    ...{ opt_mask: 0, snd_wscale: 0, mss_clamp: 536 },
  };
  hearReset({ fd, state: TCP_STATE.CLOSE, own: endOfAddress(getsockname(fd)), peer: endOfAddress(nobody), value });
  setRepair(fd, "off-silently");
  // Reading the error takes it away: it stays only where there was one.
  if (entry.broken_off !== true) getsockoptInt(fd, { level: SOL_SOCKET, name: SO.ERROR });
}

/** Whether the images have what a connection needs. */
export function hasConnection(entry: InetSkEntry, session: RestoreSession): boolean {
  return session.images.exists("TCP_STREAM", [entry.ino]) && addressOf(entry, "src") !== undefined && addressOf(entry, "dst") !== undefined;
}
