/** All workloads, by kind: what is tried between Floe and the peer. */
import type { Case } from "../harness/run-case.js";
import { cpuCases } from "./cpu/cases.js";
import { credentialCases } from "./credentials/cases.js";
import { fileCases } from "./files/cases.js";
import { memoryCases } from "./memory/cases.js";
import { pipeCases } from "./pipes/cases.js";
import { signalCases } from "./signals/cases.js";
import { syscallCases } from "./syscalls/cases.js";
import { taskCases } from "./tasks/cases.js";
import { threadCases } from "./threads/cases.js";
import { timerCases } from "./timers/cases.js";
import { treeCases } from "./tree/cases.js";

export const allKinds: readonly (readonly [kind: string, cases: readonly Case[]])[] = [
  ["cpu", cpuCases],
  ["credentials", credentialCases],
  ["files", fileCases],
  ["memory", memoryCases],
  ["pipes", pipeCases],
  ["signals", signalCases],
  ["syscalls", syscallCases],
  ["tasks", taskCases],
  ["threads", threadCases],
  ["timers", timerCases],
  ["tree", treeCases],
];
