import type { Case } from "../../harness/run-case.js";

const bits = (what: string, claim: string): Case => ({
  workload: "attributes3/bits",
  args: [what],
  rows: ["task.sched"],
  claim,
  peerCannot: "it does not carry this",
});

export const attributeCases: readonly Case[] = [
  {
    workload: "attributes3/timers",
    rows: ["time.posix-timers"],
    claim: "timers of threads, on processor time, and those whose signal is queued go on",
  },
  bits(
    "several",
    "affinity, I/O priority, time slice, timer slack, mitigations of threads; core-dump filter, autogroup, login uid are kept",
  ),
  bits("deadline", "deadline threads keep runtime, deadline, period and flags"),
  bits("tsc", "a thread that may not read the time-stamp counter still may not"),
  bits("merge", "merging of equal pages is kept"),
  bits("mdwe", "memory-deny-write-execute is kept"),
  bits("mdwe-own", "and so it is where children are not concerned"),
  bits("personality", "threads keep personalities of their own"),
  bits("thp", "huge pages stay on only where they were asked for"),
  {
    workload: "attributes3/dispatch",
    rows: ["task.sched"],
    claim: "system calls that a thread has dispatched still are",
    peerCannot: "it does not carry this",
  },
  {
    workload: "attributes3/ia32",
    rows: ["cpu.compat32"],
    claim: "a 32-bit program goes on as one",
    peerCannot: "most builds of it leave 32-bit programs out",
  },
  {
    workload: "attributes3/dead-leader",
    rows: ["thr.dead-leader"],
    claim: "a process lives on without its main thread",
    peerCannot: "it refuses this",
  },
];
