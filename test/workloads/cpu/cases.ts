import { readFileSync } from "node:fs";
import type { Case } from "../../harness/run-case.js";

const flags = readFileSync("/proc/cpuinfo", "latin1");

export const cpuCases: readonly Case[] = [
  {
    workload: "cpu/gpregs",
    rows: ["cpu.gpregs"],
    claim: "threads spinning in user code keep every general register, the flags and the red zone",
  },
  { workload: "cpu/vector", rows: ["cpu.fpregs"], claim: "threads keep x87, vector registers, MXCSR and PKRU" },
  {
    workload: "cpu/tiles",
    rows: ["cpu.fpregs"],
    claim: "threads keep their AMX tiles and the right to them",
    machineCannot: /^flags.* amx_tile\b/m.test(flags) ? undefined : "this processor has no AMX",
    peerCannot: "it does not know them",
  },
  {
    workload: "cpu/ldt",
    rows: ["cpu.gpregs"],
    claim: "segments of a table of one's own are kept, and registers that name them",
    modes: ["in-place", "killed-restored", "twice"],
    peerCannot: "it does not know them",
  },
  { workload: "cpu/rseq", rows: ["cpu.rseq"], claim: "rseq stays registered and a critical section that was interrupted is aborted" },
];
