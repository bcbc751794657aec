import type { Case } from "../../harness/run-case.js";

export const threadCases: readonly Case[] = [
  {
    workload: "threads/threads",
    rows: ["thr.basic", "task.comm-personality", "task.sched"],
    claim: "threads keep what is theirs, and work together",
  },
  { workload: "threads/futex", rows: ["thr.futex"], claim: "futex waiters are woken and robust lists tell of dead owners" },
  { workload: "threads/posix-aio", rows: ["thr.posix-aio"], claim: "requests of the C library's asynchronous I/O complete" },
  {
    workload: "threads/posix-aio",
    args: ["tcp"],
    rows: ["thr.posix-aio"],
    claim: "the same on a TCP socket",
    options: ["--tcp-established"],
    peerCannot: "4.1 asks TCP sockets for options that new kernels refuse",
  },
];
