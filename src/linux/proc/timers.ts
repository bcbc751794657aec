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
  /** The thread of SIGEV_THREAD_ID, else the process. */
  readonly notifyTid: number;
  readonly clockId: number;
}

const NOTIFY: Readonly<Record<string, number>> = { signal: 0, none: 1, thread: 2 };
const SIGEV_THREAD_ID = 4;
const RECORD = /ID: (\d+)\nsignal: (\d+)\/([0-9a-fx]+)\nnotify: (\w+)\/(\w+)\.(\d+)\nClockID: (-?\d+)\n/g;

/** Takes the text apart; timers come in the order of their ids. */
export function parseTimers(text: string, path: string): ProcTimer[] {
  const timers = [...text.matchAll(RECORD)].map(([, id, signal, sigval, notify, whom, tid, clock]) => ({
    id: Number(id),
    signal: Number(signal),
    sigval: sigval === "0" ? 0n : BigInt(sigval?.startsWith("0x") ? sigval : `0x${sigval}`),
    notify: (NOTIFY[notify ?? ""] ?? 0) | (whom === "tid" ? SIGEV_THREAD_ID : 0),
    notifyTid: Number(tid),
    clockId: Number(clock),
  }));
  const wanted = text.split("ID: ").length - 1 - text.split("ClockID: ").length + 1;
  if (timers.length !== wanted) throw procTextError(path, "it has a record that cannot be understood");
  return timers.sort((a, b) => a.id - b.id);
}
