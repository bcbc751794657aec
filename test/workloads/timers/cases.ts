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
];
