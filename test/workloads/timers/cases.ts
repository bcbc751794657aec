import type { Case } from "../../harness/run-case.js";

export const timerCases: readonly Case[] = [
  { workload: "timers/itimers", rows: ["time.itimers"], claim: "periodic interval timers keep their time and fire" },
  {
    workload: "timers/itimers",
    args: ["one-shot"],
    rows: ["time.itimers"],
    claim: "one-shot interval timers keep their time and fire once",
  },
  { workload: "timers/posix-timers", rows: ["time.posix-timers"], claim: "POSIX timers keep identifier, clock, time, target and overruns" },
  {
    workload: "timers/all-clocks",
    rows: ["time.posix-timers", "time.timerfd"],
    claim: "timers on every clock go on, under identifiers with holes",
  },
  {
    workload: "timers/burst",
    rows: ["time.posix-timers", "sig.pending"],
    claim: "timers that fire while the process is dumped fire exactly once",
    peerCannot: "it loses those that fire between its reading of pending signals and of timers",
  },
];

export const overrunCases: readonly Case[] = [
  {
    workload: "timers/overruns",
    rows: ["time.posix-timers"],
    claim: "timers remember how many periods they have missed",
    modes: ["in-place", "killed-restored", "twice"],
    peerCannot: "it forgets them",
  },
];
