/**
 * The states of a TCP connection that comes to its end, and how a repaired connection gets into them.
 *
 * The end of one's own stream is a call (shutdown(2), silent in repair mode); the end of the peer's, and its word that it has
 * seen ours, are segments made in its name. Both ends then are where they were, whether they are in the tree or not.
 */
import { type SegmentEnd, sendSegment } from "../../linux/tcp-segment.js";
import { tcpInfo } from "../../linux/tcp.js";
import type { Fd } from "../part.js";
import type { TcpStreamEntry } from "./tcp.schema.js";

/** include/net/tcp_states.h */
export const TCP_STATE = {
  ESTABLISHED: 1,
  SYN_SENT: 2,
  SYN_RECV: 3,
  FIN_WAIT1: 4,
  FIN_WAIT2: 5,
  CLOSE: 7,
  CLOSE_WAIT: 8,
  LAST_ACK: 9,
  LISTEN: 10,
  CLOSING: 11,
} as const;

const { FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING } = TCP_STATE;
const includes =
  (...states: number[]) =>
  (state: number) =>
    states.includes(state);

/** States with a peer and sequence numbers. */
export const isConnection = includes(TCP_STATE.ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING);
/** We have said that nothing follows: that takes a sequence number. */
export const hasSaidEnd = includes(FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING);
/** We have said so, and the peer has not confirmed it: it counts as data that is still to be confirmed. */
export const awaitsConfirmation = includes(FIN_WAIT1, LAST_ACK, CLOSING);
/** The peer has said that nothing follows. */
export const hasHeardEnd = includes(CLOSE_WAIT, LAST_ACK, CLOSING);
/** The peer's end came before ours. */
export const heardFirst = includes(CLOSE_WAIT, LAST_ACK);

/** A connection that is being made again. */
export interface Ending {
  readonly fd: Fd;
  /** The state it had. */
  readonly state: number;
  readonly own: SegmentEnd;
  readonly peer: SegmentEnd;
  readonly value: TcpStreamEntry;
}

const ARRIVAL_MS = 200;
const nap = new Int32Array(new SharedArrayBuffer(4));

/** The peer's end of the stream. */
export function hearEnd(ending: Ending): void {
  const { state, value } = ending;
  const from = { state: tcpInfo(ending.fd).state };
  sendSegment({ ...inNameOfPeer(ending), sequence: value.inq_seq - 1, acknowledges: confirmed(state, value), flag: "fin" });
  awaitChange(ending.fd, from.state);
}

/** The peer's word that it has seen the end of our stream. */
export function hearConfirmation(ending: Ending): void {
  const { state } = tcpInfo(ending.fd);
  sendSegment({ ...inNameOfPeer(ending), sequence: ending.value.inq_seq, acknowledges: ending.value.outq_seq });
  awaitChange(ending.fd, state);
}

/** The peer breaks the connection off. */
export function hearReset(ending: Ending): void {
  const { state } = tcpInfo(ending.fd);
  sendSegment({ ...inNameOfPeer(ending), sequence: ending.value.inq_seq, acknowledges: ending.value.outq_seq, flag: "rst" });
  awaitChange(ending.fd, state);
}

function inNameOfPeer({ own, peer, value }: Ending): { from: SegmentEnd; to: SegmentEnd; window: number } {
  return { from: peer, to: own, window: (value.snd_wnd ?? 0xffff) >>> value.snd_wscale };
}

/** What the peer has confirmed of our stream. */
function confirmed(state: number, { outq_seq, outq_len }: TcpStreamEntry): number {
  return outq_seq - outq_len - Number(awaitsConfirmation(state));
}

/** Segments by way of the loopback device arrive nearly at once. One that a firewall takes away leaves the connection as it is. */
function awaitChange(fd: Fd, before: number): void {
  for (let waitedMs = 0; waitedMs < ARRIVAL_MS && tcpInfo(fd).state === before; waitedMs++) Atomics.wait(nap, 0, 0, 1);
}
