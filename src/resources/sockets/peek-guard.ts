/**
 * Nobody is left with an offset of ours: while Floe looks into a queue behind its first message (SO_PEEK_OFF), a process that
 * holds the socket is ready to put the offset back by itself, should Floe die in that moment.
 *
 * The process does so before it runs on. Another one that has the socket too may be a few microseconds ahead.
 */
import { SO } from "../../linux/socket-options.js";
import { SOL_SOCKET } from "../../linux/sockets.js";
import { SYS } from "../../linux/syscalls.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { promiseCalls, withdrawCalls } from "../../target/run.js";
import type { DumpSession, OpenFile } from "../part.js";
import type { OffsetGuard } from "./peek.js";

/** A guard for a socket; one on its way between processes is lent to whoever will receive it. */
export function offsetGuard({ task, fd, isInFlight }: OpenFile, { local, session }: { local: number; session: DumpSession }): OffsetGuard {
  const { leader } = task.traced;
  let lent: number | undefined;
  return {
    arm(offset) {
      if (isInFlight === true) [lent] = handOver(leader, [local]);
      const data = Buffer.alloc(4);
      data.writeInt32LE(offset, 0);
      const back = { nr: SYS.setsockopt, args: [lent ?? fd, SOL_SOCKET, SO.PEEK_OFF, "data", 4] } as const;
      promiseCalls(leader, lent === undefined ? [back] : [back, { nr: SYS.close, args: [lent] }], data);
    },
    changed: () => session.faultPoint(isInFlight === true ? "dump-peeking-in-flight" : "dump-peeking"),
    disarm() {
      withdrawCalls(leader);
      if (lent !== undefined) closeRemote(leader, [lent]);
      lent = undefined;
    },
  };
}
