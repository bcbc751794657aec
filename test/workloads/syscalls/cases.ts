import type { Case } from "../../harness/run-case.js";

export const syscallCases: readonly Case[] = [
  {
    workload: "syscalls/handlers",
    rows: ["cpu.syscall-restart"],
    claim: "calls that a handler ends are ended by signals that come in the freeze",
    peerCannot: "it begins calls again behind a handler, and loses an interval timer whose signal waits",
  },
  {
    workload: "syscalls/undisturbed",
    rows: ["cpu.syscall-restart"],
    claim: "calls that every stop ends go on waiting, if they have no limit",
    peerCannot: "its freeze ends them",
  },
  {
    workload: "syscalls/undisturbed",
    args: ["threads"],
    rows: ["cpu.syscall-restart"],
    claim: "calls that every stop ends go on waiting in threads, by a freeze that copies ahead",
    options: ["--pre-copy", "always"],
    modes: ["alone", "in-place"],
    peerCannot: "its freeze ends them",
  },
  {
    workload: "syscalls/ia32",
    rows: ["cpu.syscall-restart", "cpu.compat32"],
    claim: "calls of 32-bit programs go on waiting, and end by handlers",
    peerCannot: "most builds of it leave 32-bit programs out",
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
