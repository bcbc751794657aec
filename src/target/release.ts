/**
 * The last steps of making a process: the stub goes, every thread gets its own state, and the process is let go.
 */
import { checked, kernelError } from "../linux/errno.js";
import { syscallNumber } from "../linux/ffi/native.unsafe.js";
import {
  NT_X86_XSTATE,
  type UserDispatch,
  ptraceCont,
  ptraceDetach,
  ptraceGetRegs,
  ptraceSetOptions,
  ptraceSetRegs,
  ptraceSetRegset,
  ptraceSetSigmask,
  ptraceSetUserDispatch,
  ptraceSyscall,
  waitThread,
} from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { arch } from "./arch.js";
import { resumeStrayStop } from "./run.js";
import type { TracedTask, TracedThread } from "./thread.js";

const SIGSTOP = 19;

/** The state a thread is to go on with. */
export interface FinalState {
  readonly regs: Buffer;
  readonly xstate: Buffer;
  readonly sigmask: bigint;
  readonly userDispatch: UserDispatch | undefined;
}

/** Unmaps the stub regions of processes whose work is done, by a system call of the stub itself; all at once. */
export function unmapStubs(tasks: readonly TracedTask[]): void {
  const having = tasks.filter(({ region }) => region !== undefined);
  for (const { leader, pid, region } of having) {
    if (region === undefined) continue;
    if (leader.slot === undefined) throw new Error(`internal error: process ${pid} is not parked`);
    const rip = leader.slot.code + BigInt(arch.stubSyscallOffset);
    ptraceSetRegs(leader.tid, arch.callRegs(leader.regs, { rip, nr: SYS.munmap, args: [region.address, BigInt(region.length)] }));
  }
  // The second stop comes before the next instruction is fetched, so the code may be gone by then.
  for (let stop = 0; stop < 2; stop++) {
    for (const { leader } of having) ptraceSyscall(leader.tid);
    for (const { leader } of having) waitSyscallStop(leader);
  }
  const regs = Buffer.alloc(arch.regsBytes);
  for (const task of having) {
    ptraceGetRegs(task.leader.tid, regs);
    const result = arch.syscallResult(regs);
    if (result !== 0n) throw kernelError(`munmap(0x${task.region?.address.toString(16)}) in process ${task.pid}`, result);
    task.region = undefined;
  }
}

function waitSyscallStop(thread: TracedThread): void {
  for (;;) {
    const status = waitThread(thread.tid);
    if (status.kind === "syscall-stop") return;
    if (status.kind === "event-stop" || status.kind === "signal-stop") ptraceSyscall(thread.tid);
    else resumeStrayStop(thread, status);
  }
}

/** Sets registers and mask of a thread; nothing may be run in it any more. */
export function setFinalState(thread: TracedThread, state: FinalState): void {
  ptraceSetRegset(thread.tid, NT_X86_XSTATE, state.xstate);
  ptraceSetRegs(thread.tid, state.regs);
  ptraceSetSigmask(thread.tid, state.sigmask);
  if (state.userDispatch !== undefined) ptraceSetUserDispatch(thread.tid, state.userDispatch);
  thread.slot = undefined;
}

/**
 * Puts a finished process into a group stop by `signal`, before any of its own code has run; it stays in it when it is let go.
 * Its parent is told (SIGCHLD), as by every stop.
 */
export function stopProcess(task: TracedTask, signal: number): void {
  const { leader } = task;
  checked(syscallNumber(SYS.tgkill, task.pid, leader.tid, SIGSTOP), () => `tgkill(${task.pid}, ${leader.tid}, SIGSTOP)`);
  // The leader takes the signal, and so begins the stop of all; the others must not run before.
  ptraceCont(leader.tid);
  for (;;) {
    const status = waitThread(leader.tid);
    if (status.kind === "event-stop" && status.signal === signal) break;
    if (status.kind === "signal-stop" && status.signal === SIGSTOP) ptraceCont(leader.tid, signal);
    else if (status.kind === "event-stop" || status.kind === "signal-stop") ptraceCont(leader.tid);
    else resumeStrayStop(leader, status);
  }
  for (const thread of task.threads.slice(1)) {
    ptraceCont(thread.tid);
    const status = waitThread(thread.tid);
    if (status.kind !== "event-stop") resumeStrayStop(thread, status);
  }
}

/** Lets finished processes go. From the first call on they outlive us. */
export function letGo(tasks: readonly TracedTask[]): void {
  // None may die with us while another already runs.
  for (const task of tasks) for (const thread of task.threads) ptraceSetOptions(thread.tid, 0);
  for (const task of tasks) for (const thread of task.threads) ptraceDetach(thread.tid);
}
