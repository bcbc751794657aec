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
import { dupFrom } from "../../linux/fcntl.js";
import type { TcpEnd } from "../../linux/nftables.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO, bytesUnread, bytesUnsent } from "../../linux/socket-options.js";
import {
  MSG_DONTWAIT,
  MSG_PEEK,
  SOL_SOCKET,
  bind,
  connect,
  getsockname,
  getsockoptInt,
  recvmsg,
  setsockoptInt,
  shutdown,
} from "../../linux/sockets.js";
import {
  TCP_QUEUE,
  getWindow,
  queueSequence,
  readQueue,
  segmentLimit,
  setAgreed,
  setQueueSequence,
  setRepair,
  setTimestamp,
  setWindow,
  tcpInfo,
  timestamp,
  writeQueue,
} from "../../linux/tcp.js";
import { afterFiles } from "../files/table.js";
import type { DumpSession, Fd, OpenFile, RestoreSession } from "../part.js";
import { addressOf, unmapped } from "./inet-address.js";
import type { InetSkEntry } from "./inet.schema.js";
import {
  type Ending,
  TCP_STATE,
  awaitsConfirmation,
  hasHeardEnd,
  hasSaidEnd,
  hearConfirmation,
  hearEnd,
  hearReset,
  heardFirst,
} from "./tcp-states.js";
import { lock, lockId, unlock } from "./lock.js";
import { liftLimits } from "./options.js";
import { type TcpStreamEntry, tcpStreamEntry } from "./tcp.schema.js";

type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

/** Connections of one dump, by both ends. */
const connections = new WeakMap<DumpSession, Set<string>>();

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

/** Saves a connection when all of the tree are known. */
export function saveConnection(file: OpenFile, entry: InetSkEntry, { session, stop }: { session: DumpSession; stop: Stop }): void {
  const known = connections.get(session) ?? new Set();
  connections.set(session, known);
  const [here, there] = [endOf(entry, "src"), endOf(entry, "dst")];
  known.add(`${endText(here)}-${endText(there)}`);
  const local = dupFrom(file.local, 0);
  // Stays open until the tree is released, or dead: then it is the last descriptor, and in repair mode its end is a silent one.
  session.takeBack(() => closeSync(local));
  session.afterDeath(() => {
    setRepair(local, "on");
    closeSync(local);
  });
  afterFiles(session, () => {
    const isInside = known.has(`${endText(there)}-${endText(here)}`);
    if (session.options.networkLock !== "skip" && !holdBack(here, there, { session, stop, isInside })) return;
    const { value, extra } = inRepair(local, entry, () => readConnection(local, entry.state));
    session.images.append("TCP_STREAM", [entry.ino], { type: tcpStreamEntry, value, extra });
  });
}

/** Nobody ends repair mode for us should we die in it, so it lasts for a few calls only; segments are held back meanwhile. */
function inRepair<T>(fd: Fd, entry: InetSkEntry, action: () => T): T {
  setRepair(fd, "on");
  try {
    return action();
  } finally {
    leaveRepair(fd, entry);
  }
}

/** The end of repair mode also ends SO_REUSEADDR, silently. */
function leaveRepair(fd: Fd, { opts }: InetSkEntry): void {
  setRepair(fd, "off-silently");
  if (opts.reuseaddr === true) setsockoptInt(fd, { level: SOL_SOCKET, name: SO.REUSEADDR }, 1);
}

function holdBack(
  here: TcpEnd,
  there: TcpEnd,
  { session, stop, isInside }: { session: DumpSession; stop: Stop; isInside: boolean },
): boolean {
  try {
    lock(here, there, { session, isLasting: !isInside });
    return true;
  } catch (error) {
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

function readConnection(fd: Fd, state: number): { value: TcpStreamEntry; extra: Buffer } {
  const info = tcpInfo(fd);
  const received = readQueue(fd, TCP_QUEUE.receive, bytesToRead(fd));
  // The end of the stream is counted in the queue, as if it were a byte of data.
  const end = Number(awaitsConfirmation(state));
  const sent = readQueue(fd, TCP_QUEUE.send, Math.max(0, bytesUnread(fd) - end));
  const value: TcpStreamEntry = {
    inq_len: received.length,
    inq_seq: queueSequence(fd, TCP_QUEUE.receive),
    outq_len: sent.length,
    outq_seq: queueSequence(fd, TCP_QUEUE.send),
    unsq_len: Math.max(0, bytesUnsent(fd) - end),
    opt_mask: info.agreed & 7,
    snd_wscale: info.sendScale,
    rcv_wscale: info.receiveScale,
    mss_clamp: segmentLimit(fd),
    timestamp: timestamp(fd),
    ...getWindow(fd),
  };
  return { value, extra: Buffer.concat([received, sent]) };
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
    setWindow(fd, { snd_wl1: snd_wl1 - heard, snd_wnd, max_window, rcv_wnd, rcv_wup: rcv_wup - heard });
  }
  return { fd, entry, state, value, own: endOf(entry, "src"), peer: endOf(entry, "dst"), unsent: extra.subarray(sentEnd) };
}

function liftLock({ own, peer }: Pick<Ending, "own" | "peer">): void {
  try {
    unlock(lockId(own, peer));
  } catch (error) {
    // Without nftables there is no lock either.
    if (!(error instanceof KernelError)) throw error;
  }
}

/** Takes away what is left of a connection that is not made again. */
export function forgetConnection(entry: InetSkEntry): void {
  liftLock({ own: endOf(entry, "src"), peer: endOf(entry, "dst") });
}

/** Lets a connection talk again: all that it needs exists. */
export function startConnection(made: MadeConnection): void {
  const { fd, state, unsent } = made;
  liftLock(made);
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
