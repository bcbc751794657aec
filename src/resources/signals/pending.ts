/**
 * Signals that are queued and not yet delivered, with their complete siginfo.
 *
 * Read from   PTRACE_PEEKSIGINFO, for the thread's own queue and the process's shared one
 * Made with   rt_tgsigqueueinfo(2) and rt_sigqueueinfo(2) by the thread itself, which alone may set any si_code
 *
 * Queued last, while all signals are blocked, in the order they had. What a periodic POSIX timer has queued
 * the timer queues again by itself.
 */
import { ptracePeekSiginfo } from "../../linux/ptrace.js";
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";
import { alarmAfterReading } from "../timers/itimers.js";
import { comesFromTimer, firedAfterReading } from "../timers/posix-timers.js";
import type { TaskTimersEntry } from "../timers/timers.schema.js";

/**
 * A queue as it is after the timers were read: what came since the freeze belongs to it, or else the signal of a timer
 * that fired in between would be lost. What comes from a timer that was read as armed would come twice.
 */
function queue(tid: number, at: { shared: boolean; before: readonly Buffer[]; timers: TaskTimersEntry | undefined }): Buffer[] {
  const { timers, before } = at;
  const fresh = (info: Buffer) => timers === undefined || !(firedAfterReading(info, timers.posix) || alarmAfterReading(info, timers.real));
  return ptracePeekSiginfo(tid, at.shared).filter((info, i) => i < before.length || fresh(info));
}

export const pending: ThreadPart = {
  name: "signals/pending",
  rows: ["sig.pending"],
  stage: "last",

  dump({ isLeader, thread, task, core }) {
    const list = (infos: readonly Buffer[]) => ({ signals: infos.map((siginfo) => ({ siginfo })) });
    return () => {
      const timers = task.core.tc?.timers;
      if (core.thread_core !== undefined)
        core.thread_core.signals_p = list(queue(thread.tid, { shared: false, before: thread.pending, timers }));
      if (isLeader && core.tc !== undefined)
        core.tc.signals_s = list(queue(thread.tid, { shared: true, before: task.traced.sharedPending, timers }));
    };
  },

  restore({ isLeader, program, core, task, tid }) {
    const timers = task.core.tc?.timers?.posix ?? [];
    for (const { siginfo } of core.thread_core?.signals_p?.signals ?? []) {
      if (comesFromTimer(siginfo, timers)) continue;
      const info = program.bytes(siginfo);
      program.call(SYS.rt_tgsigqueueinfo, task.pid, tid, info.content.readInt32LE(0), info).must("queueing a pending signal");
    }
    if (!isLeader) return undefined;
    for (const { siginfo } of core.tc?.signals_s?.signals ?? []) {
      if (comesFromTimer(siginfo, timers)) continue;
      const info = program.bytes(siginfo);
      program.call(SYS.rt_sigqueueinfo, task.pid, info.content.readInt32LE(0), info).must("queueing a pending signal");
    }
    return undefined;
  },
};
