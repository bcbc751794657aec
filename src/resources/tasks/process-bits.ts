/**
 * Switches of a process: what a core dump contains, automatic merging of equal pages, memory-deny-write-execute, nice
 * value of its autogroup.
 *
 * Read from   /proc/PID/coredump_filter, /proc/PID/autogroup; prctl(PR_GET_MEMORY_MERGE), prctl(PR_GET_MDWE) inside
 * Made with   the same files; prctl(PR_SET_MEMORY_MERGE), prctl(PR_SET_MDWE)
 *
 * CRIU's images have no place for them; they travel in fields of task_core that other readers skip.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { PR_GET_MDWE, PR_GET_MEMORY_MERGE, PR_SET_MDWE, PR_SET_MEMORY_MERGE } from "../../linux/prctl.js";
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";

/** Text of a file below /proc that a kernel may be built without. */
function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

export const coreDumpFilter: ThreadPart = {
  name: "tasks/core-dump-filter",
  rows: [],
  stage: "process",
  dump({ isLeader, task, core }) {
    if (!isLeader || core.tc === undefined) return undefined;
    const text = readIfThere(`/proc/${task.traced.pid}/coredump_filter`);
    if (text !== undefined && text.trim() !== "") core.tc.coredump_filter = Number.parseInt(text, 16);
    return undefined;
  },
  restore({ isLeader, task, core }) {
    const filter = core.tc?.coredump_filter;
    if (!isLeader || filter === undefined) return undefined;
    return () => writeFileSync(`/proc/${task.traced.pid}/coredump_filter`, `0x${filter.toString(16)}`);
  },
};

/** A session shares one autogroup, which only its leader speaks for. */
export const autogroup: ThreadPart = {
  name: "tasks/autogroup",
  rows: [],
  stage: "process",
  dump({ isLeader, task, core }) {
    if (!isLeader || core.tc === undefined || task.stat.session !== task.traced.pid) return undefined;
    const nice = /nice (-?\d+)/.exec(readIfThere(`/proc/${task.traced.pid}/autogroup`) ?? "")?.[1];
    if (nice !== undefined && nice !== "0") core.tc.autogroup_nice = Number(nice);
    return undefined;
  },
  restore({ isLeader, task, core, session }) {
    const nice = core.tc?.autogroup_nice;
    if (!isLeader || nice === undefined) return undefined;
    return () => {
      const path = `/proc/${task.traced.pid}/autogroup`;
      if (readIfThere(path) === undefined)
        session.warn(`process ${task.pid}: this kernel has no autogroups; nice value ${nice} of its session's is lost`);
      else writeFileSync(path, `${nice}`);
    };
  },
};

export const memoryMerge: ThreadPart = {
  name: "tasks/memory-merge",
  rows: [],
  stage: "process",
  uniform: "later",
  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const isOn = program.call(SYS.prctl, PR_GET_MEMORY_MERGE, 0, 0, 0, 0);
    return () => {
      if (core.tc !== undefined && isOn.value === 1n) core.tc.memory_merge = true;
    };
  },
  restore({ isLeader, program, core }) {
    if (isLeader && core.tc?.memory_merge === true) {
      program.call(SYS.prctl, PR_SET_MEMORY_MERGE, 1, 0, 0, 0).must("having equal pages merged");
    }
    return undefined;
  },
};

/** Comes last of all: with it on, nothing that Floe makes executable could be written. It cannot be taken back. */
export const denyWriteExecute: ThreadPart = {
  name: "tasks/deny-write-execute",
  rows: [],
  stage: "last",
  uniform: "later",
  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const bits = program.call(SYS.prctl, PR_GET_MDWE, 0, 0, 0, 0);
    return () => {
      if (core.tc !== undefined && bits.value > 0n) core.tc.mdwe = Number(bits.value);
    };
  },
  restore({ isLeader, program, core }) {
    const bits = core.tc?.mdwe;
    if (isLeader && bits !== undefined) program.call(SYS.prctl, PR_SET_MDWE, bits, 0, 0, 0).must("denying writable and executable memory");
    return undefined;
  },
};
