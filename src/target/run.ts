/**
 * Carries out system-call programs in stopped threads, many threads at once.
 */
import { kernelError } from "../linux/errno.js";
import {
  type Piece,
  type WaitStatus,
  ptraceCont,
  ptraceSetRegs,
  readProcessMemoryPieces,
  waitThread,
  writeProcessMemory,
  writeProcessMemoryPieces,
} from "../linux/ptrace.js";
import { arch } from "./arch.js";
import { ENTRY_BYTES, type Program, type Round, layOut, takeBack } from "./program.js";
import { CLEANUP_CALLS, type Slot } from "./region.js";
import { SYS } from "../linux/syscalls.js";
import type { TracedThread } from "./thread.js";

const ESRCH = 3;
const EFAULT = 14;
const SIGSTOP = 19;

/** A program and the thread that is to run it. */
export interface Job {
  readonly thread: TracedThread;
  readonly program: Program;
  /** Code that is gone through first and jumps to the stub. */
  readonly entry?: bigint;
}

interface Running {
  readonly job: Job;
  readonly round: Round;
}

/** Runs `program` in `thread`; throws the typed error of the first call that had to succeed and did not. */
export function run(thread: TracedThread, program: Program): void {
  runAll([{ thread, program }]);
}

/**
 * Runs programs in many threads at once: all are started, then all are waited for, until every program has ended.
 *
 * Throws after all have stopped again, with the first failure. A thread may appear only once. `meanwhile` is work of our
 * own while the threads are at theirs.
 */
export function runAll(jobs: readonly Job[], meanwhile?: () => void): void {
  let pending = jobs.filter((job) => job.program.entries.length > 0).map((job) => ({ job, from: 0 }));
  let failure: Error | undefined;
  if (pending.length === 0) meanwhile?.();
  while (pending.length > 0) {
    const running: Running[] = [];
    try {
      for (const group of groups(pending)) startAll(group, running);
    } catch (error) {
      failure ??= error as Error;
    }
    try {
      if (failure === undefined) meanwhile?.();
    } catch (error) {
      failure = error as Error;
    }
    meanwhile = undefined;
    pending = [];
    for (const r of running) {
      try {
        finish(r);
      } catch (error) {
        failure ??= error as Error;
        continue;
      }
      const failed = r.job.program.failure;
      if (failed !== undefined) failure ??= failed.error();
      else if (r.round.next < r.job.program.entries.length && failure === undefined) {
        pending.push({ job: r.job, from: r.round.next });
      }
    }
  }
  if (failure !== undefined) throw failure;
}

/** Starts the first round of a program whose end will not be seen, because the process ends in it. */
export function startProgram(job: Job): void {
  startAll([{ job, from: 0 }], []);
}

/** A program and the entry that it goes on with. */
interface Start {
  readonly job: Job;
  readonly from: number;
}

/** So many are written to a process by one call: the first of them should not wait long for the last. */
const GROUP = 64;

/** Neighbours of one process, in small groups. */
function* groups(starts: readonly Start[]): Generator<Start[]> {
  let group: Start[] = [];
  for (const one of starts) {
    const first = group[0];
    if (first !== undefined && (group.length === GROUP || first.job.thread.task !== one.job.thread.task)) {
      yield group;
      group = [];
    }
    group.push(one);
  }
  if (group.length > 0) yield group;
}

/** Lays out and starts programs in threads of one process; each that runs is added to `running`. */
function startAll(group: readonly Start[], running: Running[]): void {
  const rounds = group.map(({ job, from }) => {
    const { slot } = job.thread;
    if (slot === undefined) throw new Error(`internal error: thread ${job.thread.tid} has no stub`);
    const round = layOut(job.program, from, { base: slot.table, capacity: slot.tableBytes });
    return { slot, round, pieces: [{ address: slot.table, bytes: round.image }, ...cleanupPieces(job.thread, slot)] };
  });
  const [first] = group;
  if (first === undefined) return;
  const { task } = first.job.thread;
  const wrote = writeProcessMemoryPieces(
    task.pid,
    rounds.flatMap(({ pieces }) => pieces),
  );
  if (wrote !== true) throw kernelError(`process_vm_writev(${task.pid}, ${group.length} programs)`, wrote === false ? -EFAULT : wrote);
  group.forEach(({ job, from }, i) => {
    const { slot, round } = rounds[i] as (typeof rounds)[number];
    const { thread, entry } = job;
    const regs = arch.stubRegs(thread.regs, slot);
    if (entry !== undefined && from === 0) arch.setInstructionPointer(regs, entry);
    // A thread that was parked and has run nothing yet stands where it is to begin.
    if (!thread.isAtStart || entry !== undefined) ptraceSetRegs(thread.tid, regs);
    thread.isAtStart = false;
    ptraceCont(thread.tid);
    running.push({ job, round });
  });
}

/** Clears the end pointer and sets what the task does by itself should we die: it closes the descriptors we put there. */
function cleanupPieces(thread: TracedThread, slot: Slot): Piece[] {
  const fds = thread.strayFds.slice(0, CLEANUP_CALLS);
  const state = Buffer.alloc(16); // cleanup pointer, end pointer: neighbours in the frame
  const pieces: Piece[] = [];
  if (fds.length > 0) {
    const table = Buffer.alloc((fds.length + 1) * ENTRY_BYTES);
    fds.forEach((fd, i) => {
      table.writeInt32LE(SYS.close, i * ENTRY_BYTES);
      table.writeBigInt64LE(BigInt(fd), i * ENTRY_BYTES + 8);
    });
    table.writeInt32LE(-1, fds.length * ENTRY_BYTES);
    pieces.push({ address: slot.cleanup, bytes: table });
    state.writeBigUInt64LE(slot.cleanup, 0);
  }
  return [...pieces, { address: slot.frame + BigInt(arch.frame.cleanup), bytes: state }];
}

const endPointer = Buffer.alloc(8);

function finish({ job, round }: Running): void {
  const { thread } = job;
  const slot = thread.slot;
  if (slot === undefined) return;
  const memory = waitForEnd(thread, slot, round.readBackBytes);
  const endIndex = Number((endPointer.readBigUInt64LE(0) - slot.table) / BigInt(ENTRY_BYTES));
  takeBack(round, memory, { base: slot.table, endIndex });
}

/**
 * Waits until the stub has reported the end of its program by its signal; returns the table as it is then.
 *
 * A stop signal from outside is let through (it takes effect when the thread is released); the trap signal sent by a
 * stranger is told apart by the end pointer, which only the stub writes.
 */
function waitForEnd(thread: TracedThread, slot: Slot, readBackBytes: number): Buffer {
  const memory = Buffer.alloc(readBackBytes);
  for (;;) {
    const status = waitThread(thread.tid);
    if (status.kind === "signal-stop" && status.signal === thread.task.trapSignal) {
      const got = readProcessMemoryPieces(thread.task.pid, [
        { address: slot.frame + BigInt(arch.frame.end), bytes: endPointer },
        { address: slot.table, bytes: memory },
      ]);
      if (got !== endPointer.length + memory.length) throw kernelError(`process_vm_readv(${thread.task.pid})`, got < 0 ? got : -EFAULT);
      if (endPointer.readBigUInt64LE(0) !== 0n) return memory;
      ptraceCont(thread.tid);
      continue;
    }
    resumeStrayStop(thread, status);
  }
}

/** Handles a stop that is not the one waited for; throws when the thread is gone or faulted. */
export function resumeStrayStop(thread: TracedThread, status: WaitStatus): void {
  const who = `thread ${thread.tid} of process ${thread.task.pid} (${thread.task.comm})`;
  if (status.kind === "exited" || status.kind === "killed") {
    throw kernelError(`${who} died while it was held`, ESRCH);
  }
  if (status.kind === "signal-stop" && status.signal === SIGSTOP) {
    ptraceCont(thread.tid, SIGSTOP);
    return;
  }
  if (status.kind === "event-stop") {
    ptraceCont(thread.tid);
    return;
  }
  throw new Error(`internal error: ${who} stopped unexpectedly: ${JSON.stringify(status)}`);
}

/** Writes into the target's memory; FRAME_AREA_BYTES and tables are always writable there. */
export function writeTarget(thread: TracedThread, address: bigint, bytes: Uint8Array): void {
  const wrote = writeProcessMemory(thread.task.pid, address, bytes);
  if (wrote !== bytes.length) {
    throw kernelError(`process_vm_writev(${thread.task.pid}, 0x${address.toString(16)}, ${bytes.length})`, wrote < 0 ? wrote : -14);
  }
}
