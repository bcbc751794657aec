/**
 * A copy of a frozen process: its memory as it is now, shared copy-on-write, in a process that never runs a line of the
 * program. So the process itself can go on while its memory is saved.
 *
 * Made by two clones, so that nobody is told of its end and the process has no child that it does not know:
 *
 *   leader   clone3(CLONE_VM | CLONE_VFORK), exit signal 0: the maker, in the same memory; waits for its end, takes note of it
 *   maker    clone3(), exit signal 0: the copy; ends. The copy becomes a child of who adopts orphans there (init, a subreaper)
 *
 * Whenever we die nothing is left: the maker and the copy have PTRACE_O_EXITKILL, the copy from its birth on; a maker that
 * was not given it yet goes on in the stub, where it ends itself (Program.endIfZero), and the leader then goes on as ever.
 */
import { readFileSync } from "node:fs";
import { KernelError } from "../errors.js";
import { ERRNO, kernelError } from "../linux/errno.js";
import { encodeCloneArgs } from "../linux/process.js";
import {
  PTRACE_O_EXITKILL,
  PTRACE_O_SUSPEND_SECCOMP,
  PTRACE_O_TRACESYSGOOD,
  __WALL,
  ptraceGetRegs,
  ptraceSetOptions,
  waitThread,
} from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { arch } from "./arch.js";
import { Program, type Result } from "./program.js";
import { slotInside } from "./region.js";
import { run, runAll } from "./run.js";
import { adoptStopped, killTask } from "./seed.js";
import { parkAt } from "./stub-attach.js";
import { TracedTask, TracedThread } from "./thread.js";

/** uapi/linux/sched.h, uapi/linux/close_range.h */
const CLONE_VM = 0x100n;
const CLONE_FS = 0x200n;
const CLONE_FILES = 0x400n;
const CLONE_PTRACE = 0x2000n;
const CLONE_VFORK = 0x4000n;
const CLOSE_RANGE_UNSHARE = 2;
const ALL_FDS = 0xffffffff;

const nap = new Int32Array(new SharedArrayBuffer(4));
/** How long a fork without memory takes, more or less, in milliseconds. */
const NAP_MS = 0.05;

/** Whether {@link makeCopy} can be tried on it at all. */
export function canBeCopied(task: TracedTask): boolean {
  return !task.hasLostLeader && !arch.isCompat(task.leader.regs) && task.region !== undefined;
}

/**
 * Makes a copy of `task`, whose stub must be in place. It has no descriptors, a session of its own, and stands at the stub;
 * it ends by {@link killTask}. undefined: there may be no further process, not enough memory, or the like.
 */
export function makeCopy(task: TracedTask): TracedTask | undefined {
  const program = new Program();
  const maker = addClone(program, CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_FILES | CLONE_PTRACE);
  program.endIfZero(maker);
  program.call(SYS.wait4, maker, 0, __WALL, 0);
  const before = new Set(childrenOf(task.leader.tid));
  let copy: TracedTask | undefined;
  try {
    runAll([{ thread: task.leader, program }], () => {
      const pid = newChild(task, before);
      if (pid !== undefined) copy = withMaker(task, pid);
    });
    return copy;
  } catch (error) {
    if (copy !== undefined) killTask(copy);
    // RLIMIT_NPROC, the limit of a control group, too little memory, a call that is not there, somebody who kills what he does not know.
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

/** exit_signal 0: nobody is told. */
function addClone(program: Program, flags: bigint): Result {
  const args = program.bytes(encodeCloneArgs({ flags, exitSignal: 0 }));
  return program.call(SYS.clone3, args, args.content.length).must();
}

/** Waits for the maker to appear; undefined when there is none. */
function newChild({ leader }: TracedTask, before: ReadonlySet<number>): number | undefined {
  for (let polls = 0; ; polls++) {
    // We may go before all ordinary work of the machine: the leader must get its turn.
    if (polls > 0) Atomics.wait(nap, 0, 0, NAP_MS);
    const isOver = hasEnded(leader.tid);
    const pid = childrenOf(leader.tid).find((child) => !before.has(child));
    if (pid !== undefined || isOver) return pid;
  }
}

function childrenOf(tid: number): number[] {
  const text = readFileSync(`/proc/${tid}/task/${tid}/children`, "latin1").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

/** Whether a thread stands at the end of its program, or is dead. */
function hasEnded(tid: number): boolean {
  const text = readFileSync(`/proc/${tid}/stat`, "latin1");
  return "tZX".includes(text.charAt(text.lastIndexOf(")") + 2));
}

/** Has the maker make the copy; the maker is dead afterwards. */
function withMaker(original: TracedTask, pid: number): TracedTask {
  const maker = adopt(original, pid);
  try {
    waitBirth(maker);
    const suspend = original.leader.isSeccompSuspended ? PTRACE_O_SUSPEND_SECCOMP : 0;
    // What is cloned from here on dies with us.
    ptraceSetOptions(pid, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | suspend);
    parkAt(maker.leader, slotInside(original.region?.address ?? 0n));
    const program = new Program();
    program.endIfZero(addClone(program, CLONE_FILES | CLONE_PTRACE));
    run(maker.leader, program);
    const [child] = childrenOf(pid);
    if (child === undefined) throw new Error(`internal error: process ${pid} has made no copy`);
    return settle(adopt(original, child));
  } finally {
    killTask(maker);
  }
}

function adopt({ comm, region, trapSignal }: TracedTask, pid: number): TracedTask {
  const task = new TracedTask(pid, comm);
  task.region = region;
  task.trapSignal = trapSignal;
  task.threads.push(new TracedThread(task, pid));
  return task;
}

/** Waits for its first stop, and reads what it is called where it lives. */
function waitBirth(task: TracedTask): void {
  const { leader } = task;
  const status = waitThread(task.pid);
  if (status.kind !== "event-stop") throw kernelError(`process ${task.pid} did not stop: ${JSON.stringify(status)}`, ERRNO.ESRCH);
  const text = readFileSync(`/proc/${task.pid}/status`, "latin1");
  task.nsPid = Number(/^NSpid:.*?(\d+)$/m.exec(text)?.[1] ?? task.pid);
  leader.nsTid = task.nsPid;
  leader.regs = Buffer.alloc(arch.regsBytes);
  ptraceGetRegs(leader.tid, leader.regs);
}

/** Parks the copy and cuts it off: what the program closes is closed, and no signal to its group meets the copy. */
function settle(copy: TracedTask): TracedTask {
  try {
    waitBirth(copy);
    adoptStopped(copy.leader, 0);
    const program = new Program();
    program.call(SYS.close_range, 0, ALL_FDS, CLOSE_RANGE_UNSHARE).must();
    program.call(SYS.setsid);
    run(copy.leader, program);
    return copy;
  } catch (error) {
    killTask(copy);
    throw error;
  }
}
