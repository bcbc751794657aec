/**
 * Scheduling policy, real-time priority and nice value of a thread.
 *
 * Read from   sched_getscheduler(2), sched_getparam(2), getpriority(2) inside the thread
 * Made with   setpriority(2), sched_setscheduler(2)
 *
 * The policy number includes SCHED_RESET_ON_FORK, as the call returns it.
 */
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";

const PRIO_PROCESS = 0;
/** getpriority(2) as a raw call returns 20 - nice. */
const NICE_BASE = 20;

export const scheduling: ThreadPart = {
  name: "tasks/scheduling",
  rows: ["task.sched"],
  stage: "last",

  dump({ program, core }) {
    const policy = program.call(SYS.sched_getscheduler, 0).must("reading the scheduling policy");
    const parameter = program.buffer(8);
    program.call(SYS.sched_getparam, 0, parameter).must();
    const priority = program.call(SYS.getpriority, PRIO_PROCESS, 0).must();
    return () => {
      if (core.thread_core === undefined) return;
      core.thread_core.sched_nice = NICE_BASE - Number(priority.value);
      core.thread_core.sched_policy = Number(policy.value);
      const prio = parameter.bytes().readInt32LE(0);
      if (prio !== 0) core.thread_core.sched_prio = prio;
    };
  },

  restore({ program, core }) {
    const { sched_nice, sched_policy, sched_prio } = core.thread_core ?? {};
    if (sched_nice !== undefined) {
      program.call(SYS.setpriority, PRIO_PROCESS, 0, sched_nice).must(`setting nice value ${sched_nice}`);
    }
    const parameter = Buffer.alloc(8);
    parameter.writeInt32LE(sched_prio ?? 0, 0);
    program
      .call(SYS.sched_setscheduler, 0, sched_policy ?? 0, program.bytes(parameter))
      .must(`setting scheduling policy ${sched_policy ?? 0}`);
    return undefined;
  },
};
