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
    for (const [r, error] of finishAll(running)) {
      if (error !== undefined) {
        failure ??= error;
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
    return { slot, round, pieces: piecesToStart(job.thread, slot, round.image) };
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

/**
 * What is written to start a program, in this order. The call that writes it is cut short when we are killed in it, and a thread
 * that was parked then runs whatever table it has. So what has to be cleaned up comes first, and the first entry, which is the
 * mark of the end until then, last.
 */
export function piecesToStart(thread: TracedThread, slot: Slot, table: Buffer): Piece[] {
  const pieces = cleanupPieces(thread, slot);
  if (!thread.isAtStart || table.length <= ENTRY_BYTES) return [...pieces, { address: slot.table, bytes: table }];
  const rest = { address: slot.table + BigInt(ENTRY_BYTES), bytes: table.subarray(ENTRY_BYTES) };
  return [...pieces, rest, { address: slot.table, bytes: table.subarray(0, ENTRY_BYTES) }];
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

/** A call that a task makes by itself; "data" stands for the address of what was given with the calls. */
export interface PromisedCall {
  readonly nr: number;
  readonly args: readonly (bigint | number | "data")[];
}

/**
 * Has the task make calls by itself should we die, while its thread stands at the end of a program. Nothing may be run in
 * the thread until {@link withdrawCalls}.
 */
export function promiseCalls(thread: TracedThread, calls: readonly PromisedCall[], data: Uint8Array): void {
  const { slot } = thread;
  const at = slot === undefined ? undefined : placeOfPromise(slot, calls.length);
  if (slot === undefined || at === undefined) throw new Error(`internal error: thread ${thread.tid} cannot promise ${calls.length} calls`);
  const table = Buffer.alloc((calls.length + 1) * ENTRY_BYTES);
  const dataAt = calls.length * ENTRY_BYTES + 8; // behind the mark of the end
  calls.forEach(({ nr, args }, i) => {
    table.writeInt32LE(nr, i * ENTRY_BYTES);
    args.forEach((arg, k) => {
      table.writeBigInt64LE(arg === "data" ? at + BigInt(dataAt) : BigInt(arg), i * ENTRY_BYTES + 8 + k * 8);
    });
  });
  table.writeInt32LE(-1, calls.length * ENTRY_BYTES);
  table.set(data.subarray(0, ENTRY_BYTES - 8), dataAt);
  const pointer = Buffer.alloc(8);
  pointer.writeBigUInt64LE(at, 0);
  writeTarget(thread, at, table);
  writeTarget(thread, slot.frame + BigInt(arch.frame.cleanup), pointer);
}

/**
 * Where there is room for so many calls, a mark and data: behind the slot, or else in the middle of the memory for programs, of which
 * none is run meanwhile, before the place of {@link slotInside}.
 */
function placeOfPromise(slot: Slot, calls: number): bigint | undefined {
  if (calls < CLEANUP_CALLS) return slot.cleanup;
  const quarter = slot.tableBytes >> 2;
  const offset = quarter - (quarter % ENTRY_BYTES);
  return (calls + 1) * ENTRY_BYTES > offset - ENTRY_BYTES ? undefined : slot.table + BigInt(offset);
}

/** Takes back what {@link promiseCalls} asked for. */
export function withdrawCalls(thread: TracedThread): void {
  if (thread.slot !== undefined) writeTarget(thread, thread.slot.frame + BigInt(arch.frame.cleanup), Buffer.alloc(8));
}

/** So many results are read by one call, which takes two ranges for each. */
const READ_GROUP = 256;

/** Waits for the end of every program and takes its results; with each what went wrong. */
function* finishAll(running: readonly Running[]): Generator<[Running, Error | undefined]> {
  let group: Ended[] = [];
  for (const r of running) {
    let ended: Ended;
    try {
      ended = waitForTrap(r);
    } catch (error) {
      yield [r, error as Error];
      continue;
    }
    const first = group[0];
    if (first !== undefined && (group.length === READ_GROUP || first.running.job.thread.task !== r.job.thread.task)) {
      yield* takeAll(group);
      group = [];
    }
    group.push(ended);
  }
  yield* takeAll(group);
}

/** A program that has reported its end, and memory for what it leaves. */
interface Ended {
  readonly running: Running;
  readonly slot: Slot;
  readonly end: Buffer;
  readonly memory: Buffer;
}

function* takeAll(group: readonly Ended[]): Generator<[Running, Error | undefined]> {
  let failure: Error | undefined;
  try {
    if (group.length > 0) readBack(group);
  } catch (error) {
    failure = error as Error;
  }
  for (const ended of group) {
    let own = failure;
    try {
      if (own === undefined) take(ended);
    } catch (error) {
      own = error as Error;
    }
    yield [ended.running, own];
  }
}

/** The trap signal sent by a stranger is told apart by the end pointer, which only the stub writes. */
function take(ended: Ended): void {
  const { running, slot, end, memory } = ended;
  const { thread } = running.job;
  while (end.readBigUInt64LE(0) === 0n) {
    ptraceCont(thread.tid);
    waitForTrap(running);
    readBack([ended]);
  }
  const endIndex = Number(end.readBigUInt64LE(0) - slot.table) / ENTRY_BYTES;
  takeBack(running.round, memory, { base: slot.table, endIndex });
}

/** Waits for the signal by which the stub reports the end. A stop signal from outside is let through: it acts when the thread is released. */
export function waitForSignal(thread: TracedThread): void {
  for (;;) {
    const status = waitThread(thread.tid);
    if (status.kind === "signal-stop" && status.signal === thread.task.trapSignal) return;
    resumeStrayStop(thread, status);
  }
}

function waitForTrap(running: Running): Ended {
  const { thread } = running.job;
  const { slot } = thread;
  if (slot === undefined) throw new Error(`internal error: thread ${thread.tid} has no stub`);
  waitForSignal(thread);
  const memory = Buffer.allocUnsafe(running.round.readBackBytes + END_BYTES);
  return { running, slot, end: memory.subarray(0, END_BYTES), memory: memory.subarray(END_BYTES) };
}

const END_BYTES = 8;

/** Reads end pointers and tables of programs of one process. */
function readBack(group: readonly Ended[]): void {
  const pid = group[0]?.running.job.thread.task.pid ?? 0;
  const pieces = group.flatMap(({ slot, end, memory }) => [
    { address: slot.frame + BigInt(arch.frame.end), bytes: end },
    { address: slot.table, bytes: memory },
  ]);
  const wanted = pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const got = readProcessMemoryPieces(pid, pieces);
  if (got !== wanted) throw kernelError(`process_vm_readv(${pid})`, got < 0 ? got : -EFAULT);
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
