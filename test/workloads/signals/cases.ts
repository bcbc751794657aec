import type { Case } from "../../harness/run-case.js";

export const signalCases: readonly Case[] = [
  { workload: "signals/pending", rows: ["sig.pending"], claim: "pending signals of process and threads keep their order and siginfo" },
  {
    workload: "signals/infos",
    rows: ["sig.pending"],
    claim: "every kind of siginfo comes out as it went in",
    peerCannot: "it refuses pending SIGTRAPs",
  },
  { workload: "signals/handlers", rows: ["sig.handlers"], claim: "the dispositions of all signals are kept and work" },
  {
    workload: "harm/steady",
    args: ["4", "all"],
    rows: ["sig.handlers"],
    claim: "a program that catches every signal gets none, and ignores none afterwards",
  },
  { workload: "signals/altstack", rows: ["sig.altstack"], claim: "alternate stacks are kept, also one in use" },
  {
    workload: "signals/sigtrap",
    rows: ["sig.pending-sigtrap", "sig.handlers"],
    claim: "SIGTRAPs that wait are kept, and their handlers work",
    peerCannot: "it refuses pending SIGTRAPs",
  },
];
