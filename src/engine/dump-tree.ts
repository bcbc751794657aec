/**
 * pstree.img and the core messages of dead processes.
 */
import type { DumpSink } from "../images/sink.js";
import { readStat, readStatus } from "../linux/proc/read.js";
import { type CoreEntry, coreEntry } from "../resources/tasks/core.schema.js";
import { pstreeEntry } from "../resources/tasks/tree.schema.js";
import type { FrozenTree } from "../target/freeze.js";
import { type CollectedTask, TASK_STATE } from "./collect.js";

const MARCH_X86_64 = 1;

/** Writes the tree: parents before children, ids as the root's pid namespace sees them. */
export function writeTree(tree: FrozenTree, tasks: readonly CollectedTask[], context: { sink: DumpSink; rootPid: number }): void {
  const { sink } = context;
  const nsPidOf = new Map(tasks.map((t) => [t.traced.tgid, t.pid]));
  for (const task of tasks) {
    sink.append("PSTREE", [], {
      type: pstreeEntry,
      value: {
        pid: task.pid,
        ppid: task.traced.tgid === context.rootPid ? 0 : (nsPidOf.get(task.stat.ppid) ?? 0),
        pgid: task.status.nsPgid.at(-1) ?? task.stat.pgrp,
        sid: task.status.nsSid.at(-1) ?? task.stat.session,
        threads: [...(task.traced.hasLostLeader ? [task.pid] : []), ...task.traced.threads.map((t) => t.nsTid)],
      },
    });
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
      },
    };
    sink.append("PSTREE", [], {
      type: pstreeEntry,
      value: {
        pid,
        ppid: nsPidOf.get(stat.ppid) ?? 0,
        pgid: status.nsPgid.at(-1) ?? stat.pgrp,
        sid: status.nsSid.at(-1) ?? stat.session,
        threads: [pid],
      },
    });
    sink.append("CORE", [pid], { type: coreEntry, value: core });
  }
}
