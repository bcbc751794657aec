import { existsSync } from "node:fs";
import { KernelTerminals } from "../../../src/linux/kernel-terminals.js";
import type { Case } from "../../harness/run-case.js";

const MOST = ["alone", "left-running", "twice"] as const;
const devices = ["/dev/console", "/dev/tty1"];

export const ptyCases: readonly Case[] = [
  {
    workload: "ttys/pty",
    rows: ["tty.pty", "tty.ctty"],
    claim: "both sides of a pseudo-terminal, its session, its foreground group and what nobody has read yet are kept",
    peerCannot: "it fails on bytes that were read",
  },
  { workload: "ttys/pty", args: ["packet"], rows: ["tty.pty"], claim: "a master stays in packet mode, with what it has not read" },
  ...["untold", "untold-stopped"].map((how): Case => {
    return {
      workload: "ttys/pty",
      args: [how],
      rows: ["tty.pty"],
      claim: "what a master in packet mode was not told yet it is told, with what is unread",
      modes: ["in-place", "twice"],
      peerCannot: "it takes the status away",
      machineCannot: KernelTerminals.open() === undefined ? "no BTF, or no right to load BPF programs" : undefined,
    };
  }),
  { workload: "ttys/pty", args: ["much"], rows: ["tty.pty"], claim: "all that the queues of a pair can hold is kept", modes: MOST },
  {
    workload: "ttys/pty",
    args: ["stopped"],
    rows: ["tty.pty"],
    claim: "output that was stopped by ^S is stopped, with what was unread",
    modes: MOST,
  },
  { workload: "ttys/pty", args: ["held"], rows: ["tty.pty"], claim: "so is what the program has stopped itself", modes: MOST },
  { workload: "ttys/pty", args: ["modes"], rows: ["tty.pty"], claim: "locks, exclusive use and odd speeds are kept", modes: MOST },
  { workload: "ttys/pty", args: ["hung-up"], rows: ["tty.pty"], claim: "a slave without its master has hung up as before", modes: MOST },
  {
    workload: "ttys/pty",
    args: ["revoked"],
    rows: ["tty.pty"],
    claim: "so has a slave that was hung up while there is a master",
    modes: MOST,
  },
  {
    workload: "ttys/pty",
    args: ["without-group"],
    rows: ["tty.pty", "tty.ctty"],
    claim: "a shell whose job in the foreground was killed takes its terminal back",
    modes: ["alone", "killed-restored"],
  },
  { workload: "ttys/pty", args: ["new"], rows: ["tty.pty"], claim: "a slave that was never open has not hung up", modes: MOST },
  {
    workload: "ttys/hangup",
    rows: ["tty.pty", "tty.ctty"],
    claim: "a session is hung up when the master of its terminal is closed",
    modes: ["alone", "left-running", "killed-restored", "twice"],
  },
  { workload: "ttys/pty", args: ["alone"], rows: ["tty.pty"], claim: "a master without slaves has hung up as before" },
  {
    workload: "ttys/console",
    rows: ["tty.console-vt"],
    claim: "the console and a virtual terminal are opened again",
    machineCannot: devices.every((path) => existsSync(path)) ? undefined : `there is no ${devices.join(" or ")}`,
  },
];
