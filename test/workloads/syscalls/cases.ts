import type { Case } from "../../harness/run-case.js";

export const syscallCases: readonly Case[] = [
  { workload: "syscalls/sleeps", rows: ["cpu.syscall-restart"], claim: "timed calls sleep their full time" },
  {
    workload: "syscalls/sleeps",
    args: ["threads"],
    rows: ["cpu.syscall-restart", "thr.basic"],
    claim: "timed calls in threads sleep their full time",
  },
  { workload: "syscalls/waits", rows: ["cpu.syscall-restart"], claim: "calls go on waiting for what they wait for" },
];
