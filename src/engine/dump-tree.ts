/**
 * pstree.img and the core messages of dead processes.
 */
import type { DumpSink } from "../images/sink.js";
import { readStat, readStatus } from "../linux/proc/read.js";
import { type CoreEntry, coreEntry } from "../resources/tasks/core.schema.js";
import { exitSignalOf } from "../resources/tasks/exit-signal.js";
import { planTree } from "../resources/tasks/tree-plan.js";
import type { TreeTask } from "../resources/tasks/tree-steps.js";
import { type PstreeEntry, pstreeEntry } from "../resources/tasks/tree.schema.js";
import type { FrozenTree } from "../target/freeze.js";
import { type CollectedTask, TASK_STATE } from "./collect.js";

const MARCH_X86_64 = 1;

/** Writes the tree: parents before children, ids as the root's pid namespace sees them. Returns it as planners see it. */
export function writeTree(tree: FrozenTree, tasks: readonly CollectedTask[], context: { sink: DumpSink; rootPid: number }): TreeTask[] {
  const { sink } = context;
  const written: TreeTask[] = [];
  const write = (value: PstreeEntry, comm: string, state: "alive" | "zombie"): void => {
    sink.append("PSTREE", [], { type: pstreeEntry, value });
    written.push({ ...value, comm, state });
  };
  const nsPidOf = new Map(tasks.map((t) => [t.traced.tgid, t.pid]));
  for (const task of tasks) {
    const entry = {
      pid: task.pid,
      ppid: task.traced.tgid === context.rootPid ? 0 : (nsPidOf.get(task.stat.ppid) ?? 0),
      pgid: task.status.nsPgid.at(-1) ?? task.stat.pgrp,
      sid: task.status.nsSid.at(-1) ?? task.stat.session,
      threads: [...(task.traced.hasLostLeader ? [task.pid] : []), ...task.traced.threads.map((t) => t.nsTid)],
    };
    write(entry, task.comm, "alive");
  }
  for (const zombie of tree.zombies) {
    const stat = readStat(zombie.pid);
    const status = readStatus(zombie.pid);
    const pid = status.nsPid.at(-1) ?? zombie.pid;
    const core: CoreEntry = {
      mtype: MARCH_X86_64,
      tc: {
        task_state: TASK_STATE.DEAD,
        exit_code: stat.exitCode,
        personality: 0,
        flags: stat.flags >>> 0,
        blk_sigset: 0n,
        comm: stat.comm,
        sigactions: [],
        ...exitSignalOf(stat),
      },
    };
    const [pgid, sid] = [status.nsPgid.at(-1) ?? stat.pgrp, status.nsSid.at(-1) ?? stat.session];
    write({ pid, ppid: nsPidOf.get(stat.ppid) ?? 0, pgid, sid, threads: [pid] }, stat.comm, "zombie");
    sink.append("CORE", [pid], { type: coreEntry, value: core });
  }
  return written;
}

/** Throws a refusal when no order of making the processes leads to this tree, or none without what `shellJob` allows. */
export function checkRebuildable(tree: readonly TreeTask[], tasks: readonly CollectedTask[], shellJob: boolean): void {
  if (isOneLeader(tree)) return;
  planTree(tree, { shellJob, verb: "dump", objects: new Map(tasks.map((task) => [task.pid, task.ids])) });
}

/** One process that leads its own session and group can be made whatever else it is; to plan and prove it takes longer than to dump it. */
function isOneLeader([root, ...others]: readonly TreeTask[]): boolean {
  return root !== undefined && others.length === 0 && root.state === "alive" && root.sid === root.pid && root.pgid === root.pid;
}
