import type { Case } from "../../harness/run-case.js";

export const fileCases: readonly Case[] = [
  {
    workload: "files/regular",
    rows: ["file.regular", "file.fd-table"],
    claim: "open files keep number, offset, access mode and flags",
  },
  { workload: "files/sharing", rows: ["file.fd-table"], claim: "descriptions are shared by dup and fork as before, and not otherwise" },
  {
    workload: "files/directories",
    rows: ["file.dirs-opath-symlink"],
    claim: "directories are read on, and O_PATH descriptors mean what they meant",
    // O_DIRECTORY of what was opened with it.
    peerLoses: ["fd 4 flags:", "fd 5 flags:", "fd 7 flags:"],
  },
  {
    workload: "files/busy",
    rows: ["file.regular", "file.fd-table"],
    claim: "of many descriptors that are changed without a pause each is as it was left last",
  },
  {
    workload: "files/busy",
    args: ["200"],
    rows: ["file.regular", "file.fd-table"],
    claim: "so it is where there are so many that the kernel tells of all at once",
    modes: ["left-running", "killed-restored"],
  },
  {
    workload: "files/kernel-log",
    rows: ["file.regular"],
    claim: "readers of the kernel's log go on with the record that comes next",
    peerCannot: "it begins anew",
  },
  { workload: "files/devices", rows: ["file.regular"], claim: "the devices null, zero, full, random and urandom stay open" },
];
