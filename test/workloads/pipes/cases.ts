import type { Case } from "../../harness/run-case.js";

const data = (which: string, claim: string): Case => ({ workload: "pipes/data", args: [which], rows: ["file.pipe"], claim });

export const pipeCases: readonly Case[] = [
  data("empty", "an empty pipe stays empty"),
  data("some", "bytes in flight stay in the pipe"),
  data("half-read", "what is left of a pipe that was read from stays in it"),
  data("full", "a full pipe stays full"),
  data("large", "a full pipe of 1 MiB keeps capacity and content"),
  data("small", "a full pipe of one page keeps capacity and content"),
  data("records", "many small writes come out in order"),
  data("nonblocking", "a pipe made with O_NONBLOCK stays so"),
  {
    workload: "pipes/ends",
    rows: ["file.pipe"],
    claim: "pipes with one end, and with several descriptions of one end, are kept",
    // O_LARGEFILE changes places between the first description of an end and the one opened again.
    peerLoses: ["fd 7 flags:", "fd 9 flags:"],
  },
  { workload: "pipes/sharing", rows: ["file.pipe"], claim: "three tasks share the ends of pipes as before, in every way there is" },
  {
    // With "1" each way has tasks of its own: 1231 processes, too many for every run.
    workload: "pipes/pairs",
    args: ["pipes", "6"],
    rows: ["file.pipe"],
    claim: "two pipes are shared by three tasks as before, in each of the 410 ways there are",
    modes: ["alone", "killed-restored"],
  },
  {
    workload: "pipes/pairs",
    args: ["fifos", "41"],
    rows: ["file.fifo"],
    claim: "two fifos are shared by three tasks as before, in each of the 410 ways there are",
    modes: ["alone", "killed-restored"],
  },
  { workload: "pipes/fifo", rows: ["file.fifo"], claim: "named pipes keep content, ends and capacity" },
];
