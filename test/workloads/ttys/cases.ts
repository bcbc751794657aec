import { existsSync } from "node:fs";
import type { Case } from "../../harness/run-case.js";

const devices = ["/dev/console", "/dev/tty1"];

export const ptyCases: readonly Case[] = [
  {
    workload: "ttys/pty",
    rows: ["tty.pty", "tty.ctty"],
    claim: "both sides of a pseudo-terminal, its session, its foreground group and what nobody has read yet are kept",
    peerCannot: "it fails on bytes that were read",
  },
  { workload: "ttys/pty", args: ["packet"], rows: ["tty.pty"], claim: "a master stays in packet mode" },
  { workload: "ttys/pty", args: ["alone"], rows: ["tty.pty"], claim: "a master without slaves has hung up as before" },
  {
    workload: "ttys/console",
    rows: ["tty.console-vt"],
    claim: "the console and a virtual terminal are opened again",
    machineCannot: devices.every((path) => existsSync(path)) ? undefined : `there is no ${devices.join(" or ")}`,
  },
];
