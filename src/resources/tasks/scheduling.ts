/**
 * How a thread gets the processor and the disk: scheduling policy, priorities, deadline parameters, time slice,
 * utilisation clamps, the processors it may use, I/O priority.
 *
 * Read from   sched_getattr(2), getpriority(2), sched_getaffinity(2), ioprio_get(2) inside the thread
 * Made with   setpriority(2), sched_setattr(2), sched_setaffinity(2), ioprio_set(2)
 * Refused     a thread none of whose processors this machine has: NO_SUCH_PROCESSOR
 *
 * The image's policy number includes SCHED_RESET_ON_FORK. What CRIU's messages lack travels in fields that its readers
 * skip; where an image has none of them the thread keeps what it inherits from its restorer.
 */
import { readFileSync } from "node:fs";
import { Refusal } from "../../errors.js";
import {
  SCHED_DEADLINE,
  SCHED_FIFO,
  SCHED_FLAG_RESET_ON_FORK,
  SCHED_FLAG_UTIL_CLAMP_MAX,
  SCHED_FLAG_UTIL_CLAMP_MIN,
  SCHED_RESET_ON_FORK,
  SCHED_RR,
  type SchedAttr,
  SCHED_ATTR_BYTES,
  decodeSchedAttr,
  encodeSchedAttr,
  processorsOf,
  schedGetaffinity,
  schedGetattr,
} from "../../linux/sched.js";
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";
import type { ThreadCoreEntry } from "./core.schema.js";

const PRIO_PROCESS = 0;
/** getpriority(2) as a raw call returns 20 - nice. */
const NICE_BASE = 20;
/** Bits of sched_attr.flags that are state; the others ask sched_setattr(2) to keep or set something. */
const STATE_FLAGS = 0x06n; // SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN
const CLAMP_MAX = 1024;

const isFair = (policy: number) => policy !== SCHED_FIFO && policy !== SCHED_RR && policy !== SCHED_DEADLINE;

let ordinarySlice: bigint | undefined;

/** The slice of a thread that never asked for another: ours. */
function ordinarySliceNs(): bigint {
  ordinarySlice ??= schedGetattr(0).runtimeNs;
  return ordinarySlice;
}

/** What CRIU's fields cannot say of `attr`. */
function beyond(attr: SchedAttr): Partial<ThreadCoreEntry> {
  const flags = attr.flags & STATE_FLAGS;
  const isClamped = attr.utilMin !== 0 || (attr.utilMax !== CLAMP_MAX && attr.utilMax !== 0);
  const hasRuntime = attr.policy === SCHED_DEADLINE || (isFair(attr.policy) && attr.runtimeNs !== ordinarySliceNs());
  return {
    ...(hasRuntime ? { sched_runtime_ns: attr.runtimeNs } : {}),
    ...(attr.policy === SCHED_DEADLINE ? { sched_deadline_ns: attr.deadlineNs, sched_period_ns: attr.periodNs } : {}),
    ...(flags !== 0n ? { sched_flags: Number(flags) } : {}),
    ...(isClamped ? { sched_util_min: attr.utilMin, sched_util_max: attr.utilMax } : {}),
  };
}

function savedAttr(core: ThreadCoreEntry): SchedAttr {
  const policy = core.sched_policy ?? 0;
  const isClamped = core.sched_util_max !== undefined;
  const clamps = isClamped ? SCHED_FLAG_UTIL_CLAMP_MIN | SCHED_FLAG_UTIL_CLAMP_MAX : 0;
  const reset = (policy & SCHED_RESET_ON_FORK) !== 0 ? SCHED_FLAG_RESET_ON_FORK : 0;
  return {
    policy: policy & ~SCHED_RESET_ON_FORK,
    flags: BigInt(clamps | reset | (core.sched_flags ?? 0)),
    nice: core.sched_nice ?? 0,
    priority: core.sched_prio ?? 0,
    runtimeNs: core.sched_runtime_ns ?? 0n,
    deadlineNs: core.sched_deadline_ns ?? 0n,
    periodNs: core.sched_period_ns ?? 0n,
    utilMin: core.sched_util_min ?? 0,
    utilMax: core.sched_util_max ?? 0,
  };
}

export const scheduling: ThreadPart = {
  name: "tasks/scheduling",
  rows: ["task.sched"],
  stage: "last",
  uniform: "later",

  dump({ program, core }) {
    const memory = program.buffer(SCHED_ATTR_BYTES);
    program.call(SYS.sched_getattr, 0, memory, SCHED_ATTR_BYTES, 0).must("reading the scheduling policy");
    // For a real-time thread sched_getattr leaves the nice value out that comes back with an ordinary policy.
    const priority = program.call(SYS.getpriority, PRIO_PROCESS, 0).must();
    return () => {
      if (core.thread_core === undefined) return;
      const attr = decodeSchedAttr(memory.bytes());
      const isReset = (attr.flags & BigInt(SCHED_FLAG_RESET_ON_FORK)) !== 0n;
      core.thread_core.sched_nice = NICE_BASE - Number(priority.value);
      core.thread_core.sched_policy = attr.policy | (isReset ? SCHED_RESET_ON_FORK : 0);
      if (attr.priority !== 0) core.thread_core.sched_prio = attr.priority;
      Object.assign(core.thread_core, beyond(attr));
    };
  },

  restore({ program, core }) {
    if (core.thread_core === undefined) return undefined;
    const attr = savedAttr(core.thread_core);
    const { sched_nice } = core.thread_core;
    if (sched_nice !== undefined) {
      program.call(SYS.setpriority, PRIO_PROCESS, 0, sched_nice).must(`setting nice value ${sched_nice}`);
    }
    program.call(SYS.sched_setattr, 0, program.bytes(encodeSchedAttr(attr)), 0).must(`setting scheduling policy ${attr.policy}`);
    return undefined;
  },
};

/** Most processors a kernel can have (CONFIG_NR_CPUS of x86: 8192). */
const AFFINITY_BYTES = 1024;
const EVERY_PROCESSOR = Buffer.alloc(AFFINITY_BYTES, 0xff);

/** Processors that run now, as the list "0-3,6" of the kernel. */
function onlineProcessors(): Set<number> {
  const found = new Set<number>();
  for (const range of readFileSync("/sys/devices/system/cpu/online", "latin1").trim().split(",")) {
    const [first = 0, last = first] = range.split("-").map(Number);
    for (let cpu = first; cpu <= last; cpu++) found.add(cpu);
  }
  return found;
}

let online: Set<number> | undefined;
let maskBytes: number | undefined;

/** An empty mask stands for every processor: a thread that was not bound is not bound on a larger machine either. */
export const affinity: ThreadPart = {
  name: "tasks/affinity",
  rows: ["task.sched"],
  stage: "last",
  uniform: "later",

  dump({ program, core, session }) {
    // As many bytes as this kernel's masks have.
    maskBytes ??= schedGetaffinity(0).length;
    const memory = program.buffer(maskBytes);
    const got = program.call(SYS.sched_getaffinity, 0, maskBytes, memory).must("reading the processor affinity");
    return () =>
      session.later(() => {
        if (core.thread_core === undefined) return;
        const mask = memory.bytes().subarray(0, Number(got.value));
        online ??= onlineProcessors();
        const allowed = processorsOf(mask);
        const isFree = [...online].every((cpu) => allowed.includes(cpu));
        const used = Math.floor((allowed.at(-1) ?? 0) / 8) + 1;
        core.thread_core.cpu_affinity = isFree ? Buffer.alloc(0) : Buffer.from(mask.subarray(0, used));
      });
  },

  check(task) {
    return task.threads.flatMap(({ tid, core }) => {
      const wanted = processorsOf(core.thread_core?.cpu_affinity ?? Buffer.alloc(0));
      if (wanted.length === 0) return [];
      const here = onlineProcessors();
      if (wanted.some((cpu) => here.has(cpu))) return [];
      return [noProcessor({ pid: task.pid, comm: task.comm }, tid, wanted)];
    });
  },

  restore({ program, core }) {
    const mask = core.thread_core?.cpu_affinity;
    if (mask === undefined) return undefined;
    maskBytes ??= schedGetaffinity(0).length;
    const wanted = mask.length === 0 ? EVERY_PROCESSOR.subarray(0, maskBytes) : mask;
    program.call(SYS.sched_setaffinity, 0, wanted.length, program.bytes(wanted)).must("setting the processor affinity");
    return undefined;
  },
};

function noProcessor(process: { pid: number; comm: string }, tid: number, wanted: readonly number[]): Refusal {
  return new Refusal(
    {
      code: "NO_SUCH_PROCESSOR",
      process,
      resource: `thread ${tid}`,
      because: `it is bound to processors ${wanted.join(", ")}, none of which this machine has`,
      remedy: ["Restore on a machine that has one of them", "Dump again after binding it to others (taskset -p)"],
    },
    "restore",
  );
}

const IOPRIO_WHO_PROCESS = 1;

export const ioPriority: ThreadPart = {
  name: "tasks/io-priority",
  rows: ["task.sched"],
  stage: "last",
  uniform: "later",

  dump({ program, core }) {
    const value = program.call(SYS.ioprio_get, IOPRIO_WHO_PROCESS, 0);
    return () => {
      // A kernel without block devices does not have the call.
      if (core.thread_core !== undefined && value.errno === 0) core.thread_core.ioprio = Number(value.value);
    };
  },

  restore({ program, core }) {
    const value = core.thread_core?.ioprio;
    if (value === undefined) return undefined;
    program.call(SYS.ioprio_set, IOPRIO_WHO_PROCESS, 0, value).must(`setting I/O priority ${value}`);
    return undefined;
  },
};
