import type { Case } from "../../harness/run-case.js";

const attributes = ["task.rlimits", "task.sched", "task.umask", "task.fs-cwd-root", "task.oom-score", "task.pdeathsig", "mem.mm-struct"];

/** It asks for the signal before the process that restores detached ends, and so the task gets it. */
const peerCannotRestore = "it sends the parent-death signal itself";

export const taskCases: readonly Case[] = [
  {
    workload: "tasks/attributes",
    rows: attributes,
    claim: "limits, nice value, umask, cwd, name, command line, environment, brk are kept",
    peerCannotRestore,
  },
  { workload: "tasks/attributes", args: ["batch"], rows: ["task.sched"], claim: "policy batch is kept", peerCannotRestore },
  { workload: "tasks/attributes", args: ["idle"], rows: ["task.sched"], claim: "policy idle is kept", peerCannotRestore },
  {
    workload: "tasks/attributes",
    args: ["fifo"],
    rows: ["task.sched"],
    claim: "policy fifo with priority and reset-on-fork is kept",
    peerCannotRestore,
  },
  {
    workload: "tasks/attributes",
    args: ["rr"],
    rows: ["task.sched"],
    claim: "policy rr with priority and reset-on-fork is kept",
    peerCannotRestore,
  },
  {
    workload: "tasks/chroot",
    rows: ["task.fs-cwd-root"],
    claim: "a changed root and what was open before it are kept",
    // O_DIRECTORY of what was opened with it.
    peerLoses: ["fd 3 flags:"],
  },
  { workload: "tasks/vdso", rows: ["mem.vdso"], claim: "the vdso works" },
  { workload: "tasks/vdso", args: ["moved"], rows: ["mem.vdso"], claim: "a moved vdso works where it is" },
  {
    workload: "tasks/vdso",
    args: ["unmapped"],
    rows: ["mem.vdso"],
    claim: "a process that has unmapped its vdso goes on without one",
  },
  {
    workload: "tasks/quiet",
    rows: ["thr.membarrier", "cred.loginuid"],
    claim: "membarrier registrations and the login uid are kept",
  },
];
