import type { Case } from "../../harness/run-case.js";

export const threadCases: readonly Case[] = [
  {
    workload: "threads/threads",
    rows: ["thr.basic", "task.comm-personality", "task.sched"],
    claim: "threads keep what is theirs, and work together",
  },
  { workload: "threads/futex", rows: ["thr.futex"], claim: "futex waiters are woken and robust lists tell of dead owners" },
];
