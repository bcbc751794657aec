import type { Case } from "../../harness/run-case.js";

export const treeCases: readonly Case[] = [
  { workload: "tree/single", rows: ["tree.pids"], claim: "a single task comes back as it was" },
];
