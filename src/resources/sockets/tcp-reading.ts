/**
 * What connections consist of, read in repair mode: nothing is sent meanwhile, and somebody stands ready to end it (repair-guard.ts).
 *
 * All that has a fixed size is asked by one native run for each connection; what waits in its queues is read where there is any.
 */
import { FIONREAD } from "../../linux/pipes.js";
import { SocketCalls } from "../../linux/socket-calls.js";
import { SIOCOUTQNSD, SO, TIOCOUTQ } from "../../linux/socket-options.js";
import { SOL_SOCKET } from "../../linux/sockets.js";
import {
  REPAIR_WINDOW_BYTES,
  TCP_INFO,
  TCP_INFO_BYTES,
  TCP_MAXSEG,
  TCP_QUEUE,
  TCP_QUEUE_SEQ,
  TCP_REPAIR,
  TCP_REPAIR_MODE,
  TCP_REPAIR_QUEUE,
  TCP_REPAIR_WINDOW,
  TCP_TIMESTAMP,
  decodeTcpInfo,
  decodeWindow,
  readQueue,
} from "../../linux/tcp.js";
import type { DumpSession, Fd } from "../part.js";
import { type Holder, guarded } from "./repair-guard.js";
import { awaitsConfirmation } from "./tcp-states.js";
import type { TcpStreamEntry } from "./tcp.schema.js";

/** A connection to be read. */
export interface Reading {
  readonly holder: Holder;
  readonly local: Fd;
  readonly sharesAddress: boolean;
  readonly state: number;
  /** Takes what has been read. */
  take(stream: { value: TcpStreamEntry; extra: Buffer }): void;
}

const INT_BYTES = 4;
const get = (option: { level: number; name: number }, maxBytes = INT_BYTES) => ({ call: "getsockopt", ...option, maxBytes }) as const;
const set = (option: { level: number; name: number }, value: number) => ({ call: "setsockopt", ...option, value }) as const;

/** In this order; {@link AT} has their numbers. */
const ENTER = [
  set(TCP_REPAIR, TCP_REPAIR_MODE.on),
  set(TCP_REPAIR_QUEUE, TCP_QUEUE.receive),
  get(TCP_QUEUE_SEQ),
  set(TCP_REPAIR_QUEUE, TCP_QUEUE.send),
  get(TCP_QUEUE_SEQ),
  // See readQueue: nothing may be taken for sent should we die here.
  set(TCP_REPAIR_QUEUE, TCP_QUEUE.none),
  get(TCP_MAXSEG),
  get(TCP_TIMESTAMP),
  get(TCP_REPAIR_WINDOW, REPAIR_WINDOW_BYTES),
  get(TCP_INFO, TCP_INFO_BYTES),
  { call: "ioctl", request: FIONREAD },
  { call: "ioctl", request: TIOCOUTQ },
  { call: "ioctl", request: SIOCOUTQNSD },
] as const;
const AT = { received: 2, sent: 4, segment: 6, timestamp: 7, window: 8, info: 9, toRead: 10, unread: 11, unsent: 12 } as const;

/** The end of repair mode also ends SO_REUSEADDR, silently. */
const LEAVE = [set(TCP_REPAIR, TCP_REPAIR_MODE["off-silently"])];
const LEAVE_SHARED = [...LEAVE, set({ level: SOL_SOCKET, name: SO.REUSEADDR }, 1)];

/** Reads all connections of a dump. */
export function readConnections(readings: readonly Reading[], session: DumpSession): void {
  using enter = new SocketCalls(ENTER);
  using leave = new SocketCalls(LEAVE);
  using leaveShared = new SocketCalls(LEAVE_SHARED);
  guarded(readings, session, (some) => {
    const entered: Reading[] = [];
    try {
      for (const reading of some) {
        entered.push(reading);
        enter.run(reading.local);
        enter.check("reading a TCP connection");
        const stream = read(enter, reading);
        session.later(() => reading.take(stream));
      }
      session.faultPoint("dump-repairing");
    } finally {
      for (const { local, sharesAddress } of entered) (sharesAddress ? leaveShared : leave).run(local);
    }
  });
}

function read(answers: SocketCalls, { local, state }: Reading): { value: TcpStreamEntry; extra: Buffer } {
  const info = decodeTcpInfo(answers.bytes(AT.info));
  const received = readQueue(local, TCP_QUEUE.receive, answers.int(AT.toRead));
  // The end of the stream is counted in the queue, as if it were a byte of data.
  const end = Number(awaitsConfirmation(state));
  const sent = readQueue(local, TCP_QUEUE.send, Math.max(0, answers.int(AT.unread) - end));
  const value: TcpStreamEntry = {
    inq_len: received.length,
    inq_seq: answers.int(AT.received) >>> 0,
    outq_len: sent.length,
    outq_seq: answers.int(AT.sent) >>> 0,
    unsq_len: Math.max(0, answers.int(AT.unsent) - end),
    opt_mask: info.agreed & 7,
    snd_wscale: info.sendScale,
    rcv_wscale: info.receiveScale,
    mss_clamp: answers.int(AT.segment),
    timestamp: answers.int(AT.timestamp) >>> 0,
    ...decodeWindow(answers.bytes(AT.window)),
  };
  return { value, extra: Buffer.concat([received, sent]) };
}
