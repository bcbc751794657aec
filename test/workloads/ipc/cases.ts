import type { Case } from "../../harness/run-case.js";

/** In an IPC namespace of their own, with the tools outside of it. What CRIU's images have a place for. */
const QUEUES: Case = {
  workload: "ipc/queues",
  rows: ["ns.ipc-msg", "ns.ipc-sem", "ns.ipc-sysctl"],
  claim: "message queues, semaphores and limits of an own IPC namespace",
};

export const sharedIpcCases: readonly Case[] = [
  {
    workload: "ipc/segments",
    args: ["fair"],
    rows: ["ns.ipc-shm"],
    claim: "segments of an own IPC namespace, attached or not, keep contents, numbers, keys and owners",
  },
  {
    workload: "ipc/segments",
    args: ["huge", "fair"],
    rows: ["ns.ipc-shm", "mem.hugetlb"],
    claim: "segments of huge pages, attached or not",
  },
  { ...QUEUES, args: ["fair"] },
];

export const ipcCases: readonly Case[] = [
  {
    workload: "ipc/segments",
    rows: ["ns.ipc-shm"],
    claim: "segments of an own IPC namespace: also those that are removed, locked, made by others, or attached for reading",
  },
  { workload: "ipc/segments", args: ["huge"], rows: ["ns.ipc-shm", "mem.hugetlb"], claim: "segments of huge pages, attached or not" },
  QUEUES,
  { workload: "ipc/queues", args: ["undo"], rows: ["ns.ipc-sem"], claim: "what semop(2) is to undo for each process" },
];
