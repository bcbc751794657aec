import type { Case } from "../../harness/run-case.js";

const filters = (what: string, claim: string, more: Partial<Case> = {}): Case => ({
  workload: "seccomp/filters",
  args: [what],
  rows: ["cred.seccomp-filter"],
  claim,
  ...more,
});

export const seccompCases: readonly Case[] = [
  { workload: "seccomp/tight", args: ["strict"], rows: ["cred.seccomp-strict"], claim: "strict mode is on again" },
  { workload: "seccomp/tight", args: ["kill"], rows: ["cred.seccomp-filter"], claim: "a filter that allows next to nothing is on again" },
  filters("chain", "order, flags and owners of filters are kept"),
  filters("tsync", "threads share their filters and can get one more together"),
  filters("long", "threads keep long filters of their own"),
  filters("user", "filters without no_new_privs are kept when the rights to install them are gone", {
    peerCannot: "it needs CAP_SYS_RESOURCE to dump a process of another user",
  }),
];
