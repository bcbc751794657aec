/**
 * Signals that are queued and not yet delivered, with their complete siginfo.
 *
 * Read from   PTRACE_PEEKSIGINFO, for the thread's own queue and the process's shared one
 * Made with   rt_tgsigqueueinfo(2) and rt_sigqueueinfo(2) by the thread itself, which alone may set any si_code
 *
 * Queued last, while all signals are blocked, in the order they had. What a periodic POSIX timer has queued
 * the timer queues again by itself.
 */
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";
import { comesFromTimer } from "../timers/posix-timers.js";

export const pending: ThreadPart = {
  name: "signals/pending",
  rows: ["sig.pending"],
  stage: "last",

  dump({ isLeader, thread, task, core }) {
    const list = (infos: readonly Buffer[]) => ({ signals: infos.map((siginfo) => ({ siginfo })) });
    if (core.thread_core !== undefined) core.thread_core.signals_p = list(thread.pending);
    if (isLeader && core.tc !== undefined) core.tc.signals_s = list(task.traced.sharedPending);
    return undefined;
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
