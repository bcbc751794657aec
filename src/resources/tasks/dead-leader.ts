/**
 * A process whose first thread has ended while others live on.
 *
 * Read from   the exit code of the zombie in /proc; everything of the process through a thread that lives
 * Made with   exit(2) in the first thread when everything else is in place
 *
 * The image has a core of the dead thread that holds what the process has as a whole and no registers, so that no reader
 * lets it run by mistake; `ended_with` is the status it ended with.
 */
import { readFileSync } from "node:fs";
import { readStat } from "../../linux/proc/read.js";
import { PTRACE_O_SUSPEND_SECCOMP, PTRACE_O_TRACESYSGOOD, ptraceSetOptions } from "../../linux/ptrace.js";
import { SYS } from "../../linux/syscalls.js";
import { Program } from "../../target/program.js";
import { startProgram } from "../../target/run.js";
import type { TracedTask } from "../../target/thread.js";
import type { DumpTask } from "../part.js";
import type { CoreEntry } from "./core.schema.js";

interface ThreadCore {
  readonly tid: number;
  readonly core: CoreEntry;
}

/** Cores to write. The first of `threads` has the process's messages; without a leader those move into a core of their own. */
export function withDeadLeader(task: DumpTask, threads: readonly ThreadCore[]): readonly ThreadCore[] {
  const [first, ...others] = threads;
  if (!task.traced.hasLostLeader || first === undefined) return threads;
  const { tc, thread_core, ...own } = first.core;
  const { tgid, pid } = task.traced;
  const comm = readFileSync(`/proc/${tgid}/task/${tgid}/comm`, "latin1").trimEnd();
  const {
    signals_p: _queue,
    futex_rla: _list,
    futex_rla_len: _length,
    rseq_entry: _rseq,
    pdeath_sig: _signal,
    sas: _stack,
    ...inherited
  } = thread_core ?? {};
  const dead: CoreEntry = {
    mtype: first.core.mtype,
    tc: { ...(tc as NonNullable<typeof tc>), comm },
    thread_core: { ...inherited, comm, futex_rla: 0n, futex_rla_len: 0, ended_with: readStat(tgid).exitCode },
  };
  const living: CoreEntry = {
    ...own,
    thread_core: { ...(thread_core as NonNullable<typeof thread_core>), blk_sigset: task.traced.leader.sigmask },
  };
  if (task.traced.threads[0]?.tid !== pid) throw new Error(`internal error: process ${tgid} is not held by its first living thread`);
  return [{ tid: task.pid, core: dead }, { tid: first.tid, core: living }, ...others];
}

/** Whether the first thread of a saved process has ended. */
export function hasEnded(core: CoreEntry): boolean {
  return core.thread_core?.ended_with !== undefined;
}

const STATUS_SHIFT = 8;
const nap = new Int32Array(new SharedArrayBuffer(4));

/** Ends the first thread of a process being made, which has done all that the process needed of it. */
export function endLeader(task: TracedTask, core: CoreEntry): void {
  const { leader } = task;
  // It stays in our hands as long as the process lives, and must not take it along when we go.
  const suspended = core.thread_core?.seccomp_mode === undefined ? 0 : PTRACE_O_SUSPEND_SECCOMP;
  ptraceSetOptions(leader.tid, PTRACE_O_TRACESYSGOOD | suspended);
  const program = new Program();
  program.call(SYS.set_tid_address, 0);
  program.call(SYS.exit, ((core.thread_core?.ended_with ?? 0) >> STATUS_SHIFT) & 0xff);
  startProgram({ thread: leader, program });
  while (!isZombie(task.pid)) Atomics.wait(nap, 0, 0, 0.2);
  task.threads.shift();
}

function isZombie(pid: number): boolean {
  const text = readFileSync(`/proc/${pid}/task/${pid}/stat`, "latin1");
  return text.charAt(text.lastIndexOf(")") + 2) === "Z";
}
