/**
 * /proc/PID/timers, proc_pid_timers(5): POSIX timers of a process.
 */
import { procTextError } from "./text.js";

export interface ProcTimer {
  readonly id: number;
  readonly signal: number;
  readonly sigval: bigint;
  /** SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD 2, with SIGEV_THREAD_ID 4 or-ed in. */
  readonly notify: number;
  /** The thread of SIGEV_THREAD_ID, else the process; 0 when it has ended. */
  readonly notifyTid: number;
  readonly clockId: number;
}

const NOTIFY: ReadonlyMap<string, number> = new Map([
  ["signal", 0],
  ["none", 1],
  ["thread", 2],
]);
const SIGEV_THREAD_ID = 4;
const RECORD = /ID: (\d+)\nsignal: (\d+)\/(?:0x)?([0-9a-f]+)\nnotify: (\w+)\/(pid|tid)\.(\d+)\nClockID: (-?\d+)\n/y;

/** Takes the bytes apart; timers come in the order of their ids. */
export function parseTimers(bytes: Buffer, path: string): ProcTimer[] {
  const text = bytes.toString("latin1");
  const timers: ProcTimer[] = [];
  for (RECORD.lastIndex = 0; RECORD.lastIndex < text.length; ) {
    const at = RECORD.lastIndex;
    const [, id, signal, sigval, kind = "", whom, tid, clock] = RECORD.exec(text) ?? [];
    const notify = NOTIFY.get(kind);
    if (notify === undefined) throw procTextError(path, `it is cut off or malformed at byte ${at}`);
    timers.push({
      id: Number(id),
      signal: Number(signal),
      sigval: BigInt(`0x${sigval}`),
      notify: notify | (whom === "tid" ? SIGEV_THREAD_ID : 0),
      notifyTid: Number(tid),
      clockId: Number(clock),
    });
  }
  return timers.sort((a, b) => a.id - b.id);
}
