import type { Case } from "../../harness/run-case.js";

/** Twenty trees with random lives at once. */
function randomTrees(seed: number): Case {
  return {
    workload: "tree/random",
    args: [String(seed), "20"],
    rows: ["tree.pids", "tree.sessions", "tree.zombies"],
    claim: "trees with random lives come back as they were",
    modes: seed === 1 ? ["alone", "killed-restored"] : ["killed-restored"],
    peerCannot: "it cannot make most of them",
  };
}

export const treeCases: readonly Case[] = [
  {
    workload: "tree/storm",
    rows: ["tree.pids"],
    claim: "processes that are made and end while the tree is being frozen are carried or are not there",
    // It gives up when a process ends while it looks.
    peerCannot: "it does not freeze such a tree every time",
  },
  { workload: "tree/single", rows: ["tree.pids"], claim: "a single task comes back as it was" },
  { workload: "tree/children", rows: ["tree.pids"], claim: "pids and parents of a tree are kept, and children can be waited for" },
  { workload: "tree/sessions", rows: ["tree.sessions"], claim: "sessions and groups are kept, also without their leaders" },
  {
    workload: "tree/sessions",
    args: ["zombie-leader"],
    rows: ["tree.sessions"],
    claim: "a session goes on when its leader is a zombie",
    peerCannot: "it re-parents the member to init instead of the subreaper",
  },
  {
    workload: "tree/sessions",
    args: ["dead-leader"],
    rows: ["tree.sessions"],
    claim: "a session goes on when its leader is gone",
    peerCannot: "it re-parents the member to init instead of the subreaper",
  },
  { workload: "tree/zombies", rows: ["tree.zombies"], claim: "zombies report the end they had" },
  {
    workload: "tree/zombies",
    args: ["any"],
    rows: ["tree.zombies"],
    claim: "zombies report any exit code and signal",
    peerCannot: "it loses bit 7 of the exit code, and the last real-time signal",
  },
  {
    workload: "tree/exit-signals",
    rows: ["tree.pids", "tree.zombies"],
    claim: "children tell of their end by the signal they were made with, or by none",
    modes: ["left-running", "killed-restored", "twice"],
    peerCannot: "it carries no processes that share memory",
  },
  { workload: "tree/stopped", rows: ["tree.stopped"], claim: "stopped tasks stay stopped and can be continued" },
  { workload: "tree/subreaper", rows: ["tree.subreaper"], claim: "orphans go to their subreaper" },
  { workload: "tree/shared-kobj", rows: ["tree.shared-kobj"], claim: "descriptor tables are shared as before" },
  {
    workload: "tree/shared-kobj",
    args: ["fs"],
    rows: ["tree.shared-kobj"],
    claim: "fs structs are shared as before",
    peerCannot: "it refuses tasks that share a fs struct",
  },
  {
    workload: "tree/shared-apart",
    rows: ["tree.shared-kobj"],
    claim: "tables are shared by tasks of which neither made the other",
    peerCannot: "it refuses tasks that share a fs struct",
  },
  {
    workload: "tree/shared-apart",
    args: ["memory"],
    rows: ["tree.shared-kobj"],
    claim: "memory is shared by siblings of which one made the other, as its parent's child",
    peerCannot: "it refuses memory that processes share",
  },
  ...Array.from({ length: 10 }, (_, i) => randomTrees(i + 1)),
];
