import type { Case } from "../../harness/run-case.js";

/** Memory that is saved from copy-on-write copies. */
export const snapshotCases: readonly Case[] = [
  {
    workload: "snapshot/unnoticed",
    options: ["--snapshot", "always", "--pre-copy", "never"],
    rows: ["mode.snapshot"],
    claim: "a process does not notice that there is a copy of it, and its memory is that of one instant",
    peerCannot: "it has no such option",
    modes: ["alone", "left-running", "in-place", "killed-restored"],
  },
];
