/**
 * Ending a process that we hold in the way it is to be seen by its parent: by an exit code or by a signal.
 */
import { kernelError } from "../linux/errno.js";
import { ptraceCont, ptraceSetSigmask, waitThread } from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { Program } from "./program.js";
import { run, startProgram } from "./run.js";
import type { TracedTask } from "./thread.js";

const RLIMIT_CORE = 4;
const SIGNAL_MASK = 0x7f;

/**
 * Makes `task` end with wait status `status` (as wait(2) reports it: exit code in bits 8 to 15, or a signal in bits 0 to 6).
 *
 * The process is dead on return; its parent sees a zombie. No core file is written.
 */
export function endTask(task: TracedTask, status: number): void {
  const { leader } = task;
  const signal = status & SIGNAL_MASK;
  const program = new Program();
  if (signal === 0) {
    program.call(SYS.exit_group, (status >> 8) & 0xff);
    startProgram({ thread: leader, program });
  } else {
    program.call(SYS.prlimit64, 0, RLIMIT_CORE, program.bytes(Buffer.alloc(16)), 0);
    run(leader, program);
    // The thread is in a signal stop now, so a signal given to it here is delivered at once.
    ptraceSetSigmask(leader.tid, 0n);
    ptraceCont(leader.tid, signal);
  }
  for (;;) {
    const seen = waitThread(leader.tid);
    if (seen.kind === "exited" || seen.kind === "killed") return;
    if (seen.kind === "signal-stop") ptraceCont(leader.tid, seen.signal);
    else if (seen.kind === "event-stop") ptraceCont(leader.tid);
    else throw kernelError(`ending process ${task.pid}: ${JSON.stringify(seen)}`, 3);
  }
}
