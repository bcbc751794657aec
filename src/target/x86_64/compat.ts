/**
 * System calls inside a thread as a 32-bit program makes them: the kernel keeps some state differently when it was set so.
 */
import { ptraceGetRegs, ptraceSetRegs, ptraceSyscall, waitThread } from "../../linux/ptrace.js";
import { kernelError } from "../../linux/errno.js";
import { resumeStrayStop, writeTarget } from "../run.js";
import type { TracedThread } from "../thread.js";
import { REGS_BYTES, type RegisterName, USER_CS, getReg, setReg } from "./registers.js";

/** Behind the stub's code, in the page it lies in. */
const GATE_OFFSET = 0xe00n;
const INT_80 = Buffer.from("cd80", "hex");
const ARGUMENTS: readonly RegisterName[] = ["rbx", "rcx", "rdx", "rsi", "rdi"];
const NO_SYSCALL = 0xffffffffffffffffn;

/** Address of an `int $0x80` in the stub region of a thread that is parked there. */
export function compatGate(thread: TracedThread): bigint {
  const { region } = thread.task;
  if (region === undefined) throw new Error(`internal error: process ${thread.task.pid} has no stub region`);
  const gate = region.address + GATE_OFFSET;
  writeTarget(thread, gate, INT_80);
  return gate;
}

/** Makes 32-bit system call `nr` in a thread that is parked at the stub; throws when it fails. */
export function compatCall(thread: TracedThread, nr: number, args: readonly (number | bigint)[]): bigint {
  const gate = compatGate(thread);
  const regs = Buffer.from(thread.regs);
  setReg(regs, "rip", gate);
  setReg(regs, "rax", BigInt(nr));
  args.forEach((value, i) => setReg(regs, ARGUMENTS[i] as RegisterName, BigInt(value)));
  setReg(regs, "orig_rax", NO_SYSCALL);
  setReg(regs, "cs", USER_CS);
  ptraceSetRegs(thread.tid, regs);
  thread.isAtStart = false;
  for (let stop = 0; stop < 2; stop++) {
    ptraceSyscall(thread.tid);
    for (;;) {
      const status = waitThread(thread.tid);
      if (status.kind === "syscall-stop") break;
      if (status.kind === "event-stop") ptraceSyscall(thread.tid);
      else resumeStrayStop(thread, status);
    }
  }
  const after = Buffer.alloc(REGS_BYTES);
  ptraceGetRegs(thread.tid, after);
  const result = BigInt.asIntN(32, getReg(after, "rax"));
  if (result < 0n && result >= -4095n) throw kernelError(`32-bit system call ${nr} in thread ${thread.tid}`, result);
  return result;
}
