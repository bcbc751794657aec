/**
 * Interval timers, setitimer(2): ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
 *
 * Read from   getitimer(2) inside the process: interval and what remains
 * Made with   setitimer(2), as late as possible
 */
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";
import type { ItimerEntry } from "./timers.schema.js";

const WHICH = ["real", "virt", "prof"] as const;
const ITIMERVAL_BYTES = 32;

const SIGALRM = 14;
const SI_KERNEL = 128;
const US_PER_S = 1_000_000n;

/**
 * Whether `siginfo`, queued between the freeze and now, comes from a real timer that fired after it was read: then it was
 * still armed, and if periodic had little left, while one that had just fired had nearly all.
 */
export function alarmAfterReading(siginfo: Buffer, timer: ItimerEntry): boolean {
  if (siginfo.readInt32LE(0) !== SIGALRM || siginfo.readInt32LE(8) !== SI_KERNEL) return false;
  const interval = timer.isec * US_PER_S + timer.iusec;
  const remains = timer.vsec * US_PER_S + timer.vusec;
  return remains > 0n && (interval === 0n || remains < interval / 2n);
}

/**
 * A periodic timer that has fired stands still until its signal is delivered, and says so: nothing remains. Set like that it would be off for
 * good, and so it is set to fire once more. (Where the signal is ignored it does stand still for good.)
 */
function withNext(timer: ItimerEntry): ItimerEntry {
  return timer.vsec === 0n && timer.vusec === 0n ? { ...timer, vsec: timer.isec, vusec: timer.iusec } : timer;
}

export const itimers: ThreadPart = {
  name: "timers/itimers",
  rows: ["time.itimers"],
  stage: "last",
  uniform: "now",

  dump({ isLeader, program, core, status }) {
    if (!isLeader) return undefined;
    const memory = WHICH.map(() => program.buffer(ITIMERVAL_BYTES));
    memory.forEach((value, which) => program.call(SYS.getitimer, which, value).must("reading interval timers"));
    return () => {
      if (core.tc === undefined) return;
      const [real, virt, prof] = memory.map((m) => ({
        isec: m.bytes().readBigUInt64LE(0),
        iusec: m.bytes().readBigUInt64LE(8),
        vsec: m.bytes().readBigUInt64LE(16),
        vusec: m.bytes().readBigUInt64LE(24),
      }));
      if (real !== undefined && virt !== undefined && prof !== undefined) {
        const isIgnored = (status.sigIgn & (1n << BigInt(SIGALRM - 1))) !== 0n;
        core.tc.timers = { real: isIgnored ? real : withNext(real), virt, prof, posix: core.tc.timers?.posix ?? [] };
      }
    };
  },

  restore({ isLeader, program, core }) {
    const { timers } = core.tc ?? {};
    if (!isLeader || timers === undefined) return undefined;
    WHICH.forEach((name, which) => {
      const value = Buffer.alloc(ITIMERVAL_BYTES);
      value.writeBigUInt64LE(timers[name].isec, 0);
      value.writeBigUInt64LE(timers[name].iusec, 8);
      value.writeBigUInt64LE(timers[name].vsec, 16);
      value.writeBigUInt64LE(timers[name].vusec, 24);
      program.call(SYS.setitimer, which, program.bytes(value), 0).must(`setting interval timer ${name}`);
    });
    return undefined;
  },
};
