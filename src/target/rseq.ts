/**
 * A thread frozen inside a restartable sequence, rseq(2), goes on at the sequence's abort handler.
 *
 * The kernel does this itself whenever it interrupts a thread, on the way back to user code. Our stub would hide from it
 * that the thread was inside (its instruction pointer is elsewhere by then), so it is done here, at the freeze.
 *
 * struct rseq: cpu_id_start, cpu_id (4 bytes each), rseq_cs (pointer, 8), flags (4).
 * struct rseq_cs: version, flags (4 each), start_ip, post_commit_offset, abort_ip (8 each). Source: uapi/linux/rseq.h.
 */
import { ptraceGetRseqConfiguration, ptraceSetRegs, readProcessMemory } from "../linux/ptrace.js";
import { arch } from "./arch.js";
import type { TracedThread } from "./thread.js";

const RSEQ_CS_OFFSET = 8n;
const RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL = 2;

/** Moves `thread.regs` to the abort handler if the thread stands inside a restartable sequence. */
export function leaveRestartableSequence(thread: TracedThread): void {
  const registered = ptraceGetRseqConfiguration(thread.tid);
  if (registered === undefined || registered.address === 0n) return;
  const { pid } = thread.task;
  const pointer = Buffer.alloc(8);
  if (readProcessMemory(pid, registered.address + RSEQ_CS_OFFSET, pointer) !== 8) return;
  const descriptorAddress = pointer.readBigUInt64LE(0);
  if (descriptorAddress === 0n) return;
  const descriptor = Buffer.alloc(32);
  if (readProcessMemory(pid, descriptorAddress, descriptor) !== 32) return;
  const start = descriptor.readBigUInt64LE(8);
  const length = descriptor.readBigUInt64LE(16);
  const at = arch.instructionPointer(thread.regs);
  if (at < start || at >= start + length) return;
  if ((descriptor.readUInt32LE(4) & RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL) !== 0) return;
  arch.setInstructionPointer(thread.regs, descriptor.readBigUInt64LE(24));
  // At once, so that the thread is right even if we die now; the kernel clears rseq_cs by itself later.
  ptraceSetRegs(thread.tid, thread.regs);
}
