import type { Case } from "../../harness/run-case.js";

/** Memory that is copied while its process runs. */
export const precopyCases: readonly Case[] = [
  {
    workload: "precopy/torture",
    options: ["--pre-copy", "always"],
    rows: ["mem.vma-layout"],
    claim: "memory that changes in every way while it is copied is what it was at the freeze",
    peerCannot: "it has no such option",
  },
  {
    workload: "precopy/relatives",
    options: ["--pre-copy", "always"],
    rows: ["mem.cow"],
    claim: "pages that relatives share are still shared after they were copied",
    peerCannot: "it has no such option",
    modes: ["alone", "left-running", "killed-restored"],
  },
  {
    workload: "precopy/shared",
    options: ["--pre-copy", "always"],
    rows: ["mem.shared-anon", "mem.memfd", "ns.ipc-shm"],
    claim: "memory that several processes write to while it is copied is what it was at the freeze",
    peerCannot: "it has no such option",
    timeoutMs: 60_000,
  },
  {
    workload: "precopy/shared",
    args: ["wild"],
    options: ["--pre-copy", "always"],
    rows: ["mem.shared-anon", "mem.memfd"],
    claim: "and so it is when it is written past the mappings that are watched",
    peerCannot: "it has no such option",
    timeoutMs: 60_000,
  },
  {
    workload: "precopy/reservation",
    options: ["--pre-copy", "always"],
    rows: ["mem.vma-layout"],
    claim: "a reservation that is opened while it is tracked can be moved as a whole",
    peerCannot: "it has no such option",
  },
  {
    workload: "precopy/instant",
    options: ["--pre-copy", "always"],
    rows: ["mem.vma-layout"],
    claim: "what threads see of each other in memory that is copied ahead is of one instant",
    peerCannot: "it has no such option",
    modes: ["alone", "left-running", "killed-restored"],
  },
];
