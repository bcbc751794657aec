import type { Case } from "../../harness/run-case.js";

/** Memory that is copied while its process runs. */
export const precopyCases: readonly Case[] = [
  {
    workload: "precopy/torture",
    options: ["--pre-copy", "always"],
    rows: ["mem.vma-layout"],
    claim: "memory that changes in every way while it is copied is what it was at the freeze",
    peerCannot: "it has no such option",
    timeoutMs: 60_000,
  },
];
