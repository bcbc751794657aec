/**
 * The last steps of making a process: the stub goes, every thread gets its own state, and the process is let go.
 */
import { kernelError } from "../linux/errno.js";
import {
  NT_X86_XSTATE,
  ptraceDetach,
  ptraceGetRegs,
  ptraceSetOptions,
  ptraceSetRegs,
  ptraceSetRegset,
  ptraceSetSigmask,
  ptraceSyscall,
  waitThread,
} from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { arch } from "./arch.js";
import { resumeStrayStop } from "./run.js";
import type { TracedTask, TracedThread } from "./thread.js";

/** The state a thread is to go on with. */
export interface FinalState {
  readonly regs: Buffer;
  readonly xstate: Buffer;
  readonly sigmask: bigint;
}

/** Unmaps the stub region of a process whose work is done, by a system call of the stub itself. */
export function unmapStub(task: TracedTask): void {
  const { leader, region } = task;
  if (region === undefined) return;
  const slot = leader.slot;
  if (slot === undefined) throw new Error(`internal error: process ${task.pid} is not parked`);
  const rip = slot.code + BigInt(arch.stubSyscallOffset);
  ptraceSetRegs(leader.tid, arch.callRegs(leader.regs, { rip, nr: SYS.munmap, args: [region.address, BigInt(region.length)] }));
  // The second stop comes before the next instruction is fetched, so the code may be gone by then.
  for (let stop = 0; stop < 2; stop++) {
    ptraceSyscall(leader.tid);
    for (;;) {
      const status = waitThread(leader.tid);
      if (status.kind === "syscall-stop") break;
      if (status.kind === "event-stop") ptraceSyscall(leader.tid);
      else if (status.kind === "signal-stop") ptraceSyscall(leader.tid);
      else resumeStrayStop(leader, status);
    }
  }
  const regs = Buffer.alloc(arch.regsBytes);
  ptraceGetRegs(leader.tid, regs);
  const result = arch.syscallResult(regs);
  if (result !== 0n) throw kernelError(`munmap(0x${region.address.toString(16)}) in process ${task.pid}`, result);
  task.region = undefined;
}

/** Sets registers and mask of a thread; nothing may be run in it any more. */
export function setFinalState(thread: TracedThread, state: FinalState): void {
  ptraceSetRegset(thread.tid, NT_X86_XSTATE, state.xstate);
  ptraceSetRegs(thread.tid, state.regs);
  ptraceSetSigmask(thread.tid, state.sigmask);
  thread.slot = undefined;
}

/** Lets finished processes go. From the first call on they outlive us. */
export function letGo(tasks: readonly TracedTask[]): void {
  // None may die with us while another already runs.
  for (const task of tasks) for (const thread of task.threads) ptraceSetOptions(thread.tid, 0);
  for (const task of tasks) for (const thread of task.threads) ptraceDetach(thread.tid);
}
