import type { Case } from "../../harness/run-case.js";

export const cpuCases: readonly Case[] = [
  {
    workload: "cpu/gpregs",
    rows: ["cpu.gpregs"],
    claim: "threads spinning in user code keep every general register, the flags and the red zone",
  },
  { workload: "cpu/vector", rows: ["cpu.fpregs"], claim: "threads keep x87, vector registers, MXCSR and PKRU" },
  { workload: "cpu/rseq", rows: ["cpu.rseq"], claim: "rseq stays registered and a critical section that was interrupted is aborted" },
];
