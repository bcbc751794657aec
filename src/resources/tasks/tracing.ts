/**
 * Processes that trace somebody, ptrace(2), as debuggers do.
 *
 * Read from   waitid(2) inside the process: with __WCLONE it passes over children whose end is told by SIGCHLD, and takes whatever is traced;
 *             where there are others, /proc/PID/status of everybody (TracerPid)
 * Refused     one that traces a process outside of the tree: the images could not have that. One inside cannot be frozen, as it
 *             has a tracer already (target/freeze.ts).
 */
import { readFileSync, readdirSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { ERRNO } from "../../linux/errno.js";
import { readChildren } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import type { DumpTask, ThreadPart } from "../part.js";

/** uapi/linux/wait.h. */
const [P_ALL, WNOHANG, WEXITED, WNOWAIT, __WCLONE] = [0, 1, 4, 0x0100_0000, 0x8000_0000];

export const tracing: ThreadPart = {
  name: "tasks/tracing",
  rows: ["tree.ptraced"],
  stage: "last",
  uniform: "now",

  dump({ isLeader, program, task, session }) {
    if (!isLeader) return undefined;
    const found = program.call(SYS.waitid, P_ALL, 0, 0, WNOHANG | WEXITED | WNOWAIT | __WCLONE, 0);
    return () => {
      if (found.errno === ERRNO.ECHILD) return;
      const traced = tracedBy(task);
      if (traced === undefined && hasChildren(task)) return;
      session.refuse(
        new Refusal({
          code: "TRACES_OUTSIDE",
          process: { pid: task.traced.pid, comm: task.comm },
          resource: traced ?? "another process",
          because: "it traces it as a debugger does, from outside of the tree",
          remedy: ["Let the debugger or tracer detach from it, then dump again"],
        }),
      );
    };
  },
};

/** Dead ones too. */
function hasChildren({ traced }: DumpTask): boolean {
  return traced.threads.some(({ tid }) => readChildren(traced.pid, tid).length > 0);
}

/** What one of its threads traces, as the user calls it. */
function tracedBy({ traced }: DumpTask): string | undefined {
  const tids = new Set(traced.threads.map(({ tid }) => tid));
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const status = readFileSync(`/proc/${pid}/status`, "latin1");
      const tracer = Number(/^TracerPid:\s*(\d+)/m.exec(status)?.[1] ?? 0);
      if (tids.has(tracer)) return `process ${pid} (${/^Name:\t(.*)$/m.exec(status)?.[1] ?? "?"})`;
    } catch {
      // It ended meanwhile.
    }
  }
  return undefined;
}
