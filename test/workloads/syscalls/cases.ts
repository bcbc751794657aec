import type { Case } from "../../harness/run-case.js";

export const syscallCases: readonly Case[] = [
  {
    workload: "syscalls/handlers",
    rows: ["cpu.syscall-restart"],
    claim: "calls that a handler ends are ended by signals that come in the freeze",
    modes: ["alone", "in-place"],
  },
  { workload: "syscalls/sleeps", rows: ["cpu.syscall-restart"], claim: "timed calls sleep their full time" },
  {
    workload: "syscalls/sleeps",
    args: ["threads"],
    rows: ["cpu.syscall-restart", "thr.basic"],
    claim: "timed calls in threads sleep their full time",
  },
  { workload: "syscalls/waits", rows: ["cpu.syscall-restart"], claim: "calls go on waiting for what they wait for" },
];
