/**
 * Switches of a thread that prctl(2) and arch_prctl(2) read and set: timer slack, time-stamp counter, cpuid, handling of
 * memory errors, I/O flusher, mitigations of speculation.
 *
 * Read from   the getters, inside the thread; flags in /proc/PID/task/TID/stat for what only a privileged thread may ask
 * Made with   the setters, in the thread, before it gives up its rights
 *
 * CRIU's images have no place for them. Each travels in a field of thread_core that other readers skip, and only when it
 * is not what every thread begins with (the timer slack always: what a thread begins with is its creator's).
 */
import {
  PR_GET_SPECULATION_CTRL,
  PR_GET_TIMERSLACK,
  PR_GET_TSC,
  PR_MCE_KILL,
  PR_MCE_KILL_GET,
  PR_SET_IO_FLUSHER,
  PR_SET_SPECULATION_CTRL,
  PR_SET_TIMERSLACK,
  PR_SET_TSC,
} from "../../linux/prctl.js";
import { SYS } from "../../linux/syscalls.js";
import type { Program } from "../../target/program.js";
import type { ThreadDump, ThreadPart } from "../part.js";
import type { ThreadCoreEntry } from "./core.schema.js";

/** One switch: `read` adds its getter, `write` its setter. */
interface Bit {
  read(program: Program, context: Pick<ThreadDump, "stat">): (saved: ThreadCoreEntry) => void;
  write(program: Program, saved: ThreadCoreEntry): void;
}

const timerSlack: Bit = {
  read(program) {
    const value = program.call(SYS.prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0).must("reading the timer slack");
    return (saved) => {
      saved.timer_slack_ns = value.value;
    };
  },
  write(program, saved) {
    // Real-time threads have none, and 0 would ask for the ordinary one.
    if ((saved.timer_slack_ns ?? 0n) === 0n) return;
    program.call(SYS.prctl, PR_SET_TIMERSLACK, saved.timer_slack_ns as bigint, 0, 0, 0).must("setting the timer slack");
  },
};

/** uapi/linux/prctl.h */
const PR_TSC_ENABLE = 1;

const timeStampCounter: Bit = {
  read(program) {
    const mode = program.buffer(8);
    const got = program.call(SYS.prctl, PR_GET_TSC, mode, 0, 0, 0);
    return (saved) => {
      const value = mode.bytes().readInt32LE(0);
      if (got.errno === 0 && value !== PR_TSC_ENABLE) saved.tsc_mode = value;
    };
  },
  write(program, saved) {
    if (saved.tsc_mode !== undefined)
      program.call(SYS.prctl, PR_SET_TSC, saved.tsc_mode, 0, 0, 0).must("forbidding the time-stamp counter");
  },
};

/** uapi/asm/prctl.h */
const ARCH_GET_CPUID = 0x1011;
const ARCH_SET_CPUID = 0x1012;

const cpuidFaulting: Bit = {
  read(program) {
    const isAllowed = program.call(SYS.arch_prctl, ARCH_GET_CPUID, 0);
    return (saved) => {
      if (isAllowed.value === 0n) saved.cpuid_faults = true;
    };
  },
  write(program, saved) {
    if (saved.cpuid_faults === true) program.call(SYS.arch_prctl, ARCH_SET_CPUID, 0).must("forbidding cpuid");
  },
};

/** uapi/linux/prctl.h: PR_MCE_KILL_SET, PR_MCE_KILL_DEFAULT. */
const PR_MCE_KILL_SET = 1;
const PR_MCE_KILL_DEFAULT = 2;

const memoryErrors: Bit = {
  read(program) {
    const policy = program.call(SYS.prctl, PR_MCE_KILL_GET, 0, 0, 0, 0);
    return (saved) => {
      if (policy.errno === 0 && Number(policy.value) !== PR_MCE_KILL_DEFAULT) saved.mce_kill = Number(policy.value);
    };
  },
  write(program, saved) {
    if (saved.mce_kill === undefined) return;
    program.call(SYS.prctl, PR_MCE_KILL, PR_MCE_KILL_SET, saved.mce_kill, 0, 0).must("setting the policy for memory errors");
  },
};

/** linux/sched.h: PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, which PR_SET_IO_FLUSHER sets together. */
const IO_FLUSHER_FLAGS = 0x0018_0000;

const ioFlusher: Bit = {
  read(_program, { stat }) {
    // The getter asks for CAP_SYS_RESOURCE; the flags can be seen without.
    return (saved) => {
      if ((stat.flags & IO_FLUSHER_FLAGS) === IO_FLUSHER_FLAGS) saved.io_flusher = true;
    };
  },
  write(program, saved) {
    if (saved.io_flusher === true) program.call(SYS.prctl, PR_SET_IO_FLUSHER, 1, 0, 0, 0).must("making the thread an I/O flusher");
  },
};

/** uapi/linux/prctl.h: PR_SPEC_…; the bit that says that prctl(2) decides, and what a thread begins with. */
const PR_SPEC_PRCTL = 1;
const PR_SPEC_ENABLE = 2;
const PR_SPEC_DISABLE = 4;

function speculation(which: number, field: "spec_store_bypass" | "spec_indirect_branch" | "spec_l1d_flush", ordinary: number): Bit {
  return {
    read(program) {
      const state = program.call(SYS.prctl, PR_GET_SPECULATION_CTRL, which, 0, 0, 0);
      return (saved) => {
        if (state.errno !== 0 || (Number(state.value) & PR_SPEC_PRCTL) === 0) return;
        const value = Number(state.value) & ~PR_SPEC_PRCTL;
        if (value !== ordinary) saved[field] = value;
      };
    },
    write(program, saved) {
      const value = saved[field];
      if (value !== undefined)
        program.call(SYS.prctl, PR_SET_SPECULATION_CTRL, which, value, 0, 0).must(`setting mitigation ${which} of speculation`);
    },
  };
}

const BITS: readonly Bit[] = [
  timerSlack,
  timeStampCounter,
  cpuidFaulting,
  memoryErrors,
  ioFlusher,
  speculation(0, "spec_store_bypass", PR_SPEC_ENABLE),
  speculation(1, "spec_indirect_branch", PR_SPEC_ENABLE),
  speculation(2, "spec_l1d_flush", PR_SPEC_DISABLE),
];

export const threadBits: ThreadPart = {
  name: "tasks/thread-bits",
  rows: [],
  stage: "last",
  uniform: "later",
  dump({ program, stat, core }) {
    const readers = BITS.map((bit) => bit.read(program, { stat }));
    return () => {
      if (core.thread_core === undefined) return;
      for (const read of readers) read(core.thread_core);
    };
  },
  restore({ program, core }) {
    if (core.thread_core === undefined) return undefined;
    for (const bit of BITS) bit.write(program, core.thread_core);
    return undefined;
  },
};
