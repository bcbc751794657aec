/**
 * One program for many threads: laid out once, and moved to where each of them has its memory.
 *
 * To build and lay out the same program for each of a thousand threads takes as long as all they do with it. What comes back is kept as
 * it is; it is given to programs of the same calls when there is time for it.
 */
import { kernelError } from "../linux/errno.js";
import { gatherFromProcess, ptraceCont, ptraceSetRegs, scatterToProcess } from "../linux/ptrace.js";
import { arch } from "./arch.js";
import { ENTRY_BYTES, type Program, type Round, layOut, outputsOf } from "./program.js";
import type { Slot } from "./region.js";
import { waitForSignal } from "./run.js";
import type { TracedThread } from "./thread.js";

const EFAULT = 14;
/** Cleanup pointer and end pointer, neighbours in the frame: cleared when a program starts. */
const STATE_BYTES = 16;
const POINTER_BYTES = 8;
const HALF = 2 ** 32;
/** So far apart is the program laid out twice, to see which of its words are addresses. */
const ELSEWHERE = 1n << 24n;

/** A program and the threads that run it. None of them has descriptors to close should we die. */
export interface UniformJob {
  readonly layout: UniformLayout;
  readonly threads: readonly TracedThread[];
}

/** A program laid out for any slot. */
export class UniformLayout {
  readonly round: Round;
  readonly base: number;
  /** What is written: the state, the table behind its first entry with all data, and the first entry (see piecesToStart). */
  readonly bytes: Buffer;
  /** Words of 4 bytes in `bytes` at which there is an address. */
  readonly #moving: readonly number[];

  constructor(program: Program, { table, tableBytes }: Slot) {
    const there = layOut(program, 0, { base: table + ELSEWHERE, capacity: tableBytes });
    this.round = layOut(program, 0, { base: table, capacity: tableBytes });
    if (this.round.next < program.entries.length) throw new Error("internal error: a program for many threads does not fit into a slot");
    this.base = Number(table);
    this.bytes = inOrder(this.round.image);
    const [a, b] = [this.bytes, inOrder(there.image)];
    const moving: number[] = [];
    for (let at = 0; at < a.length; at += 8) if (a.readBigUInt64LE(at) !== b.readBigUInt64LE(at)) moving.push(at / 4);
    this.#moving = moving;
  }

  /** Writes what the thread with this slot gets to `at` bytes into `into`. */
  write(into: Buffer, at: number, table: number): void {
    this.bytes.copy(into, at);
    const by = table - this.base;
    if (by === 0) return;
    const words = new Uint32Array(into.buffer, into.byteOffset + at, this.bytes.length / 4);
    for (const k of this.#moving) {
      const value = (words[k] as number) + (words[k + 1] as number) * HALF + by;
      words[k] = value | 0;
      words[k + 1] = Math.floor(value / HALF);
    }
  }
}

function inOrder(image: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(STATE_BYTES), image.subarray(ENTRY_BYTES), image.subarray(0, ENTRY_BYTES)]);
}

/** What a thread's program left: its table and output data. */
export class Answers {
  readonly #layout: UniformLayout;
  readonly #memory: Buffer;
  #entry = 0;
  #output = 0;

  constructor(layout: UniformLayout, memory: Buffer) {
    this.#layout = layout;
    this.#memory = memory;
  }

  /** Gives results and data to a program that has the next of the same calls. */
  give(program: Program): void {
    const { round, base } = this.#layout;
    for (const entry of program.entries) {
      const known = round.entries[this.#entry++];
      if (known?.entry.nr !== entry.nr) throw new Error(`internal error: ${entry.name()} is not what was asked of the other threads`);
      if (entry.nr >= 0) entry.result = this.#memory.readBigInt64LE(known.index * ENTRY_BYTES + ENTRY_BYTES - 8);
    }
    for (const { content } of outputsOf(program)) {
      const known = round.outputs[this.#output++];
      if (known?.content.length !== content.length) throw new Error("internal error: data is not what was asked of the other threads");
      const at = known.address - base;
      this.#memory.copy(content, 0, at, at + content.length);
    }
  }
}

interface Batch {
  readonly layout: UniformLayout;
  readonly threads: readonly TracedThread[];
}

/** So many are written to a process by one call. */
const GROUP = 64;

function* batches(layout: UniformLayout, threads: readonly TracedThread[]): Generator<Batch> {
  let from = 0;
  for (let i = 1; i <= threads.length; i++) {
    if (i < threads.length && i - from < GROUP && threads[i]?.task === threads[from]?.task) continue;
    yield { layout, threads: threads.slice(from, i) };
    from = i;
  }
}

/** Runs each program in all of its threads at once. Throws when all have stopped again, with the first failure. */
export function runUniform(jobs: readonly UniformJob[]): Map<TracedThread, Answers> {
  const all: Batch[] = [];
  for (const { layout, threads } of jobs) {
    if (threads.length > 0 && layout.round.entries.length > 0) all.push(...batches(layout, threads));
  }
  const started: Batch[] = [];
  const answers = new Map<TracedThread, Answers>();
  let failure: Error | undefined;
  const attempt = (step: () => void) => {
    try {
      step();
    } catch (error) {
      failure ??= error as Error;
    }
  };
  attempt(() => {
    for (const batch of all) start(batch, started);
  });
  for (const batch of started) {
    const stopped = batch.threads.filter((thread) => {
      let isStopped = false;
      attempt(() => {
        waitForSignal(thread);
        isStopped = true;
      });
      return isStopped;
    });
    attempt(() => {
      readAnswers({ layout: batch.layout, threads: stopped }, answers);
    });
  }
  if (failure !== undefined) throw failure;
  return answers;
}

function slotOf(thread: TracedThread): Slot {
  if (thread.slot === undefined) throw new Error(`internal error: thread ${thread.tid} has no stub`);
  return thread.slot;
}

/** Starts threads of one process; adds those that run to `started`. */
function start({ layout, threads }: Batch, started: Batch[]): void {
  const { length } = layout.bytes;
  const memory = Buffer.allocUnsafeSlow(length * threads.length);
  const ranges: number[] = [];
  threads.forEach((thread, i) => {
    const { table, frame } = slotOf(thread);
    const at = Number(table);
    layout.write(memory, i * length, at);
    ranges.push(Number(frame) + arch.frame.cleanup, STATE_BYTES);
    ranges.push(at + ENTRY_BYTES, length - STATE_BYTES - ENTRY_BYTES, at, ENTRY_BYTES);
  });
  const pid = threads[0]?.task.pid ?? 0;
  const wrote = scatterToProcess(pid, memory, ranges);
  if (wrote !== memory.length) {
    throw kernelError(`process_vm_writev(${pid}, ${threads.length} programs)`, wrote < 0 ? wrote : -EFAULT);
  }
  const running: TracedThread[] = [];
  started.push({ layout, threads: running });
  for (const thread of threads) {
    if (!thread.isAtStart) ptraceSetRegs(thread.tid, arch.stubRegs(thread.regs, slotOf(thread)));
    thread.isAtStart = false;
    ptraceCont(thread.tid);
    running.push(thread);
  }
}

/** Takes what the programs of threads of one process left. */
function readAnswers(batch: Batch, answers: Map<TracedThread, Answers>): void {
  const { layout, threads } = batch;
  if (threads.length === 0) return;
  const length = POINTER_BYTES + layout.round.readBackBytes;
  const memory = Buffer.allocUnsafeSlow(length * threads.length);
  readEnds(layout, threads, memory);
  threads.forEach((thread, i) => {
    const own = memory.subarray(i * length, (i + 1) * length);
    // The trap signal sent by a stranger is told apart by the end pointer, which only the stub writes.
    while (own.readBigUInt64LE(0) === 0n) {
      ptraceCont(thread.tid);
      waitForSignal(thread);
      readEnds(layout, [thread], own);
    }
    const table = own.subarray(POINTER_BYTES);
    refuseFailures(layout, table, (Number(own.readBigUInt64LE(0)) - Number(slotOf(thread).table)) / ENTRY_BYTES);
    answers.set(thread, new Answers(layout, table));
  });
}

/** Reads the end pointer and the table of each thread. */
function readEnds(layout: UniformLayout, threads: readonly TracedThread[], into: Buffer): void {
  const ranges = threads.flatMap((thread) => {
    const { table, frame } = slotOf(thread);
    return [Number(frame) + arch.frame.end, POINTER_BYTES, Number(table), layout.round.readBackBytes];
  });
  const pid = threads[0]?.task.pid ?? 0;
  const got = gatherFromProcess(pid, into, ranges);
  if (got !== into.length) throw kernelError(`process_vm_readv(${pid})`, got < 0 ? got : -EFAULT);
}

/** A call that had to succeed and did not ends the program. */
function refuseFailures({ round }: UniformLayout, table: Buffer, endIndex: number): void {
  for (const { entry, index } of round.entries) {
    if (index > endIndex) throw new Error(`internal error: a program ended before ${entry.name()}`);
    if (!entry.must) continue;
    const result = table.readBigInt64LE(index * ENTRY_BYTES + ENTRY_BYTES - 8);
    if (result >= 0n || result < -4095n) continue;
    entry.result = result;
    throw entry.error();
  }
}
