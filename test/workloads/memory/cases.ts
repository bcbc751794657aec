import type { Case } from "../../harness/run-case.js";

const protections = (what: string, rows: readonly string[], claim: string): Case => ({
  workload: "memory/protections",
  args: [what],
  rows,
  claim: `${claim} of every protection keep contents and faults`,
});

const SPLIT = "it shares no page of a mapping that was cut or split since the fork";

export const memoryCases: readonly Case[] = [
  protections("private", ["mem.vma-layout"], "private anonymous mappings"),
  protections("shared", ["mem.shared-anon"], "shared anonymous mappings"),
  protections("private-file", ["mem.file-maps"], "private file mappings"),
  protections("shared-file", ["mem.file-maps"], "shared file mappings"),
  { workload: "memory/advice", rows: ["mem.advice-lock-thp"], claim: "advice and locks stay with their mappings" },
  {
    workload: "memory/advice",
    args: ["thp-disabled"],
    rows: ["mem.advice-lock-thp"],
    claim: "huge pages stay off for a process that switched them off",
  },
  {
    workload: "memory/advice",
    args: ["locked-future"],
    rows: ["mem.advice-lock-thp"],
    claim: "a process that locks all it maps later goes on doing so",
    peerCannot: "its images have no place for it",
  },
  {
    workload: "memory/advice",
    args: ["locked-all"],
    rows: ["mem.advice-lock-thp"],
    claim: "and so does one that has locked all that it had",
    modes: ["left-running", "killed-restored"],
    peerCannot: "its images have no place for it",
  },
  {
    workload: "memory/advice",
    args: ["locked-on-fault"],
    rows: ["mem.advice-lock-thp"],
    claim: "and one whose memory is locked when it is touched",
    modes: ["left-running", "killed-restored"],
    peerCannot: "its images have no place for it",
  },
  { workload: "memory/shared", rows: ["mem.shared-anon"], claim: "tasks share memory mapped at different addresses and offsets" },
  { workload: "memory/files", rows: ["mem.file-maps"], claim: "file mappings keep written pages, ends and rights" },
  { workload: "memory/stack", rows: ["mem.growsdown"], claim: "stacks grow after the thaw" },
  { workload: "memory/heap", rows: ["mem.mm-struct"], claim: "the program break grows after the thaw" },
  { workload: "memory/many", args: ["small"], rows: ["mem.vma-layout"], claim: "hundreds of small mappings are kept" },
  { workload: "memory/many", args: ["sparse"], rows: ["mem.vma-layout"], claim: "a sparse mapping of 10 GiB is kept" },
  { workload: "memory/many", args: ["large"], rows: ["mem.vma-layout"], claim: "a large written mapping is kept" },
  {
    workload: "memory/cow",
    args: ["anonymous"],
    rows: ["mem.cow"],
    claim: "parent and children share anonymous pages as before",
    peerCannot: SPLIT,
  },
  {
    workload: "memory/cow",
    args: ["file"],
    rows: ["mem.cow"],
    claim: "parent and children share private file pages as before",
    peerCannot: SPLIT,
  },
  { workload: "memory/inherited", rows: ["mem.cow", "mem.vma-layout"], claim: "children keep what they made of inherited mappings" },
];
