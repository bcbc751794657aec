/**
 * The signal by which a process tells its parent of its end, as given to clone(2); nearly always SIGCHLD. Without it a parent has to
 * ask for such children with __WCLONE.
 *
 * Read from   /proc/PID/stat
 * Made with   clone3(2); orphans have SIGCHLD always, and siblings (CLONE_PARENT) what their creator has
 */
import { readStat } from "../../linux/proc/read.js";
import type { ProcStat } from "../../linux/proc/stat.js";
import type { RestoreSession, ThreadPart } from "../part.js";
import type { CoreEntry } from "./core.schema.js";

export const SIGCHLD = 17;

/** Field of a core message; not there when it is SIGCHLD. */
export function exitSignalOf({ exitSignal }: Pick<ProcStat, "exitSignal">): { exit_signal?: number } {
  return exitSignal === SIGCHLD || exitSignal < 0 ? {} : { exit_signal: exitSignal };
}

/** What a process is to be made with. */
export function savedExitSignal(core: CoreEntry | undefined): number {
  return core?.tc?.exit_signal ?? SIGCHLD;
}

export const exitSignal: ThreadPart = {
  name: "tasks/exit-signal",
  rows: ["tree.pids"],
  stage: "process",
  uniform: "later",
  dump({ isLeader, stat, core }) {
    if (isLeader && core.tc !== undefined) Object.assign(core.tc, exitSignalOf(stat));
    return undefined;
  },
  restore({ isLeader, task, core, session }) {
    const saved = core.tc?.exit_signal;
    if (isLeader && saved !== undefined && session.tasks[0] !== task)
      warnIfOther(saved, { pid: task.pid, hostPid: task.traced.pid, session });
    return undefined;
  },
};

function warnIfOther(saved: number, { pid, hostPid, session }: { pid: number; hostPid: number; session: RestoreSession }): void {
  const now = readStat(hostPid).exitSignal;
  if (now !== saved) session.warn(`process ${pid}: its parent is told of its end by signal ${now}, not by ${saved}`);
}
