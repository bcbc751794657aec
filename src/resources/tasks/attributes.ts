/**
 * Small attributes: name, personality, parent-death signal, subreaper flag, OOM score, membarrier registrations.
 *
 * Read from   prctl(2), personality(2), membarrier(2) inside the thread; stat and oom_score_adj in /proc
 * Made with   the same calls; oom_score_adj is written to the process's own /proc entry
 */
import { readLoginuid } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";

/** uapi/linux/prctl.h */
const PR_SET_PDEATHSIG = 1;
const PR_GET_PDEATHSIG = 2;
const PR_SET_NAME = 15;
const PR_SET_CHILD_SUBREAPER = 36;
const PR_GET_CHILD_SUBREAPER = 37;
/** personality(2): asks without changing. */
const PERSONALITY_QUERY = 0xffffffff;
/** uapi/linux/membarrier.h, since 6.3. */
const MEMBARRIER_CMD_GET_REGISTRATIONS = 1 << 9;

export const threadName: ThreadPart = {
  name: "tasks/name",
  rows: ["task.comm-personality"],
  stage: "thread",
  uniform: "later",
  dump({ isLeader, stat, core }) {
    if (core.thread_core !== undefined) core.thread_core.comm = stat.comm;
    if (isLeader && core.tc !== undefined) core.tc.comm = stat.comm;
    return undefined;
  },
  restore({ program, core }) {
    const comm = core.thread_core?.comm ?? core.tc?.comm;
    if (comm !== undefined) program.call(SYS.prctl, PR_SET_NAME, program.cstring(comm), 0, 0, 0).must("setting the name");
    return undefined;
  },
};

export const personality: ThreadPart = {
  name: "tasks/personality",
  rows: ["task.comm-personality"],
  stage: "process",
  uniform: "later",
  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const value = program.call(SYS.personality, PERSONALITY_QUERY);
    return () => {
      if (core.tc !== undefined) core.tc.personality = Number(value.value & 0xffffffffn);
    };
  },
  restore({ isLeader, program, core }) {
    if (isLeader) program.call(SYS.personality, core.tc?.personality ?? 0).must("setting the personality");
    return undefined;
  },
};

/** Threads may differ: it is an attribute of each, which it gets from its creator. */
export const threadPersonality: ThreadPart = {
  name: "tasks/thread-personality",
  rows: ["task.comm-personality"],
  stage: "last",
  uniform: "later",
  dump({ isLeader, task, program, core }) {
    if (isLeader) return undefined;
    const value = program.call(SYS.personality, PERSONALITY_QUERY);
    return () => {
      const own = Number(value.value & 0xffffffffn);
      if (core.thread_core !== undefined && own !== task.core.tc?.personality) core.thread_core.personality = own;
    };
  },
  restore({ program, core }) {
    const own = core.thread_core?.personality;
    if (own !== undefined) program.call(SYS.personality, own).must("setting the personality of a thread");
    return undefined;
  },
};

export const parentDeathSignal: ThreadPart = {
  name: "tasks/parent-death-signal",
  rows: ["task.pdeathsig"],
  stage: "last",
  uniform: "later",
  dump({ program, core }) {
    const signal = program.buffer(8);
    program.call(SYS.prctl, PR_GET_PDEATHSIG, signal, 0, 0, 0).must();
    return () => {
      const value = signal.bytes().readInt32LE(0);
      if (core.thread_core !== undefined && value !== 0) core.thread_core.pdeath_sig = value;
    };
  },
  restore({ program, core }) {
    const signal = core.thread_core?.pdeath_sig ?? 0;
    // A change of credentials clears it, so it comes after them.
    if (signal !== 0) program.call(SYS.prctl, PR_SET_PDEATHSIG, signal, 0, 0, 0).must("setting the parent-death signal");
    return undefined;
  },
};

export const childSubreaper: ThreadPart = {
  name: "tasks/subreaper",
  rows: ["tree.subreaper"],
  stage: "process",
  uniform: "now",
  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const flag = program.buffer(8);
    program.call(SYS.prctl, PR_GET_CHILD_SUBREAPER, flag, 0, 0, 0).must();
    return () => {
      if (core.tc !== undefined) core.tc.child_subreaper = flag.bytes().readInt32LE(0) !== 0;
    };
  },
  restore({ isLeader, program, core }) {
    if (isLeader) program.call(SYS.prctl, PR_SET_CHILD_SUBREAPER, core.tc?.child_subreaper === true ? 1 : 0, 0, 0, 0).must();
    return undefined;
  },
};

export const oomScore: ThreadPart = {
  name: "tasks/oom-score",
  rows: ["task.oom-score"],
  stage: "process",
  uniform: "later",
  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const text = program.buffer(16);
    const fd = program.call(SYS.openat, -100, program.cstring("/proc/self/oom_score_adj"), 0, 0);
    const length = program.call(SYS.read, fd, text, 16);
    program.call(SYS.close, fd);
    return () => {
      // A process whose root has no /proc keeps the default.
      if (core.tc === undefined || fd.errno !== 0 || length.errno !== 0) return;
      core.tc.oom_score_adj = Number.parseInt(text.bytes().toString("latin1", 0, Number(length.value)), 10);
    };
  },
  restore({ isLeader, program, core, session }) {
    const score = core.tc?.oom_score_adj ?? 0;
    if (!isLeader) return undefined;
    const text = Buffer.from(`${score}\n`);
    const fd = program.call(SYS.openat, -100, program.cstring("/proc/self/oom_score_adj"), 1, 0);
    const wrote = program.call(SYS.write, fd, program.bytes(text), text.length);
    program.call(SYS.close, fd);
    return () => {
      if (wrote.errno !== 0 && score !== 0) session.warn(`oom_score_adj ${score} could not be set: errno ${wrote.errno}`);
    };
  },
};

/** Who logged in, for the audit log. Only the process itself may set it, and by default only once. */
export const loginUid: ThreadPart = {
  name: "tasks/loginuid",
  rows: ["cred.loginuid"],
  stage: "process",
  dump({ isLeader, task, core }) {
    const value = isLeader ? readLoginuid(task.traced.pid) : undefined;
    if (core.tc !== undefined && value !== undefined) core.tc.loginuid = value;
    return undefined;
  },
  restore({ isLeader, program, core, session, task }) {
    const value = core.tc?.loginuid;
    // What it inherits is ours.
    if (!isLeader || value === undefined || value === readLoginuid(process.pid)) return undefined;
    const text = Buffer.from(`${value}`);
    const fd = program.call(SYS.openat, -100, program.cstring("/proc/self/loginuid"), 1, 0);
    const wrote = program.call(SYS.write, fd, program.bytes(text), text.length);
    program.call(SYS.close, fd);
    return () => {
      if (wrote.errno !== 0) session.warn(`process ${task.pid}: its login uid ${value} could not be set: errno ${wrote.errno}`);
    };
  },
};

export const membarrier: ThreadPart = {
  name: "tasks/membarrier",
  rows: ["thr.membarrier"],
  stage: "process",
  uniform: "later",
  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const mask = program.call(SYS.membarrier, MEMBARRIER_CMD_GET_REGISTRATIONS, 0, 0);
    return () => {
      if (core.tc !== undefined && mask.errno === 0 && mask.value !== 0n) {
        core.tc.membarrier_registration_mask = Number(mask.value);
      }
    };
  },
  restore({ isLeader, program, core }) {
    const mask = core.tc?.membarrier_registration_mask ?? 0;
    if (!isLeader) return undefined;
    for (let bit = 1; bit <= mask; bit <<= 1) {
      if ((mask & bit) !== 0) program.call(SYS.membarrier, bit, 0, 0).must(`registering membarrier command ${bit}`);
    }
    return undefined;
  },
};
