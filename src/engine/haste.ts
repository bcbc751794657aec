/**
 * Priority while a tree stands still: on a machine with other work to do the freeze would last several times as long.
 */
import {
  SCHED_OTHER,
  SCHED_RESET_ON_FORK,
  SCHED_RR,
  getpriority,
  schedGetscheduler,
  schedSetscheduler,
  setpriority,
} from "../linux/sched.js";

/** The lowest priority that still goes before all ordinary work, in whatever control group or session that is. */
const LOWEST_REAL_TIME = 1;
const FIRST_NICE = -20;

/**
 * From its making until its end this thread goes before all ordinary work of the machine, as far as it may (CAP_SYS_NICE). It
 * waits for others all the time, so they get their turn, and the kernel keeps a twentieth of each second for them anyway.
 */
export class Haste {
  #undo: (() => void) | undefined;

  constructor() {
    this.#undo = realTime() ?? nice();
  }

  /** Back to what was before; may be called again. */
  end(): void {
    const undo = this.#undo;
    this.#undo = undefined;
    if (undo !== undefined) attempt(undo);
  }
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined; // it is not allowed: all goes on, only later
  }
}

/** Not where Floe has been given another policy than the usual one. */
function realTime(): (() => void) | undefined {
  return attempt(() => {
    if (schedGetscheduler(0) !== SCHED_OTHER) return undefined;
    schedSetscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, LOWEST_REAL_TIME);
    return () => schedSetscheduler(0, SCHED_OTHER, 0);
  });
}

function nice(): (() => void) | undefined {
  return attempt(() => {
    const before = getpriority(0);
    setpriority(0, FIRST_NICE);
    return () => setpriority(0, before);
  });
}
