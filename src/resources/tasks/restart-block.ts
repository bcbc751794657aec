/**
 * Timed calls that a thread is frozen in: nanosleep(2), clock_nanosleep(2), poll(2), futex(2) with a time limit. They go on for the time
 * that was left, and the program sees no interruption.
 *
 * Read from   the registers; what was left: where the call is to write it (the kernel has, by then), or the kernel's memory
 *             (`linux/kernel-restart.ts`)
 * Made with   the call itself, interrupted at once, so that the kernel keeps the rest; then restart_syscall(2)
 *
 * Where the time left cannot be known the call begins again, and none is cut short. For other readers of the images the registers say EINTR
 * where Floe knows more, as after a signal.
 *
 * And calls of any kind that a handler ends which is due when the tree is frozen: they have ended with EINTR. They would begin again
 * otherwise, behind the handler, and perhaps never return. (In what runs on in place the kernel itself decides: `target/stub-attach.ts`.)
 */
import { readFileSync, readdirSync } from "node:fs";
import { KernelRestart, type RestartBlock } from "../../linux/kernel-restart.js";
import { readProcessMemory } from "../../linux/ptrace.js";
import { clockGettime } from "../../linux/timers.js";
import { arch } from "../../target/arch.js";
import type { TracedThread } from "../../target/thread.js";
import {
  RESTART_SYSCALL,
  type TimedCall,
  type TimedKind,
  afterCall,
  argumentsIn,
  asKind,
  beginningOf,
  decodeTime,
  enterCall,
  isAbsolute,
  looksLike,
  numberedCall,
  pollNs,
  timedCall,
  timesOf,
} from "../../target/x86_64/timed-calls.js";
import { getReg, setReg } from "../../target/x86_64/registers.js";
import type { DumpSession, ThreadPart } from "../part.js";
import { SIGNALS } from "../signals/actions.js";
import { isCompat } from "./compat.js";
import type { CoreEntry, TaskCoreEntry } from "./core.schema.js";
import { gpregsToImage } from "./core-x86.js";

const NS_PER_S = 1_000_000_000n;
/** So much too long is borne, where more is looked up in the kernel's memory. */
const SHORT_NS = NS_PER_S;
/** So many threads are looked at ahead. */
const MOST_LOOKED_AT = 500;
/** So many are looked up in the kernel's memory, some 20 microseconds each. */
const MOST_LOOKED_UP = 10_000;
const CLOCK_MONOTONIC = 1;
/** Clocks that can be read from outside: CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI. */
const CLOCKS = [0, CLOCK_MONOTONIC, 7, 11];
const EINTR = 4n;
/** Bytes below the stack of a 32-bit program that a signal would use as well. */
const BELOW_STACK = 1024n;

let kernel: KernelRestart | undefined;
let wasTried = false;

/** Gets ready, some 30 ms long, if a thread sleeps for long and no other way leads to what is left. */
export function prepareRestarts(pids: readonly number[]): void {
  if (wasTried) return;
  let seen = 0;
  for (const pid of pids) {
    try {
      for (const tid of readdirSync(`/proc/${pid}/task`)) {
        if (++seen > MOST_LOOKED_AT) return;
        if (!needsKernel(pid, tid)) continue;
        wasTried = true;
        kernel = KernelRestart.open();
        return;
      }
    } catch {
      // It has ended.
    }
  }
}

/** By /proc/PID/task/TID/syscall: the number of the call, and its arguments. Of 32-bit programs nothing is known by that. */
function needsKernel(pid: number, tid: string): boolean {
  const [nr = "", ...words] = readFileSync(`/proc/${pid}/task/${tid}/syscall`, "latin1").split(" ");
  if (!/^\d+$/.test(nr)) return false;
  if (Number(nr) === RESTART_SYSCALL.native) return true;
  const args = words.slice(0, 6).map((word) => BigInt(word));
  const call = numberedCall(Number(nr), args, false);
  if (call === undefined || isAbsolute(call) || tellsWhatIsLeft(call)) return false;
  return (askedNs(pid, call) ?? 0n) >= SHORT_NS;
}

function tellsWhatIsLeft(call: TimedCall): boolean {
  return (timesOf(call)?.left ?? 0n) !== 0n;
}

function timeAt(pid: number, address: bigint, wordBytes: 4 | 8): bigint | undefined {
  const bytes = Buffer.alloc(2 * wordBytes);
  return address !== 0n && readProcessMemory(pid, address, bytes) === bytes.length ? decodeTime(bytes, wordBytes) : undefined;
}

/** How long the call was to take at most; undefined: it has no limit, or it cannot be read. */
function askedNs(pid: number, call: TimedCall): bigint | undefined {
  const times = timesOf(call);
  if (times !== undefined) return timeAt(pid, times.asked, times.wordBytes);
  return call.kind === "poll" && pollNs(call) >= 0n ? pollNs(call) : undefined;
}

function nowNs(clock: number): bigint {
  const { seconds, nanoseconds } = clockGettime(clock);
  return BigInt(seconds) * NS_PER_S + BigInt(nanoseconds);
}

interface Known {
  readonly call: TimedCall;
  /** Undefined: it has no limit, or a moment for one. It can as well begin again. */
  readonly leftNs: bigint | undefined;
}

/** By what the kernel keeps: which call it is (the arguments are in both places), and what is left of its time. */
function byKernel(call: TimedCall, { nanosleep, poll, futex }: RestartBlock): Known | undefined {
  const [first = 0n, second = 0n, third = 0n] = call.args;
  const known = (kind: TimedKind, endNs: bigint, clock: number): Known => {
    const leftNs = endNs - nowNs(clock);
    return { call: asKind(call, kind), leftNs: leftNs > 0n ? leftNs : 0n };
  };
  const isPoll = poll.ufds === first && BigInt(poll.nfds) === second && looksLike(call, "poll");
  const isFutex = futex.uaddr === first && BigInt(futex.val) === BigInt.asUintN(32, third) && futex.endNs > 0n && looksLike(call, "futex");
  if (isPoll && !isFutex && !poll.hasTimeout) return { call: asKind(call, "poll"), leftNs: undefined };
  if (isPoll !== isFutex) return isPoll ? known("poll", poll.endNs, CLOCK_MONOTONIC) : known("futex", futex.endNs, CLOCK_MONOTONIC);
  if (isPoll || !CLOCKS.includes(nanosleep.clock)) return undefined;
  const kind = (["clock_nanosleep", "nanosleep"] as const).find((one) => looksLike(call, one));
  return kind && known(kind, nanosleep.expiresNs, nanosleep.clock);
}

/** Threads that were looked up in the kernel's memory, by dump. */
const lookedUp = new WeakMap<DumpSession, number>();

function mayLookUp(session: DumpSession): boolean {
  const count = (lookedUp.get(session) ?? 0) + 1;
  lookedUp.set(session, count);
  return count <= MOST_LOOKED_UP;
}

function whatIsLeft(thread: TracedThread, call: TimedCall, session: DumpSession): Known | undefined {
  const { pid } = thread.task;
  const times = timesOf(call);
  if (times !== undefined && times.left !== 0n) {
    const leftNs = timeAt(pid, times.left, times.wordBytes);
    return leftNs === undefined || leftNs < 0n ? undefined : { call, leftNs };
  }
  const isShort = call.kind !== undefined && (askedNs(pid, call) ?? 0n) < SHORT_NS;
  if (isShort || kernel === undefined || !mayLookUp(session)) return undefined;
  const block = kernel.read(pid, thread.tid);
  return block && byKernel(call, block);
}

/** mov $number, %eax; what loads other registers may stand between it and the call. */
const MOVE_TO_EAX = 0xb8;
const MOVE_BYTES = 5;
const LOOKED_BACK_BYTES = 24;

/** A call that was interrupted before, by the instructions in front of it, in which most programs give its number. */
function byCode(thread: TracedThread, call: TimedCall): TimedCall {
  if (call.kind !== undefined) return call;
  const code = Buffer.alloc(LOOKED_BACK_BYTES);
  const begin = beginningOf(getReg(thread.regs, "rip")) - BigInt(LOOKED_BACK_BYTES);
  if (readProcessMemory(thread.task.pid, begin, code) !== code.length) return call;
  for (let at = LOOKED_BACK_BYTES - MOVE_BYTES; at >= 0; at--) {
    const found = code.readUInt8(at) === MOVE_TO_EAX ? numberedCall(code.readUInt32LE(at + 1), call.args, call.isCompat) : undefined;
    if (found?.kind !== undefined) return looksLike(call, found.kind) ? found : call;
  }
  return call;
}

/** Sets the registers of the image so that a call begins again. */
function beginAgain(core: CoreEntry, thread: TracedThread, nr: number): void {
  const gpregs = core.thread_info?.gpregs;
  if (gpregs === undefined) return;
  gpregs.ax = BigInt(nr);
  gpregs.ip = beginningOf(getReg(thread.regs, "rip"));
}

export const restartBlock: ThreadPart = {
  name: "tasks/restart-block",
  rows: ["cpu.syscall-restart"],
  stage: "last",
  dump({ thread, core, session }) {
    const interrupted = timedCall(thread.regs);
    if (interrupted === undefined || core.thread_core === undefined) return undefined;
    const call = byCode(thread, interrupted);
    if (call.kind !== undefined && isAbsolute(call)) {
      beginAgain(core, thread, call.nr);
      return undefined;
    }
    const known = whatIsLeft(thread, call, session);
    if (known !== undefined && (known.leftNs === undefined || isAbsolute(known.call))) beginAgain(core, thread, known.call.nr);
    else if (known?.leftNs !== undefined) core.thread_core.restart = { nr: known.call.nr, left_ns: known.leftNs };
    else if (call.kind !== undefined) beginAgain(core, thread, call.nr);
    return undefined;
  },
};

type Actions = TaskCoreEntry["sigactions"];

const SIG_IGN = 1n;
const SA_RESTART = 0x10000000n;

/** The flags of the handler that will run first: of signals of the thread before those of the process, of the lowest before others. */
function flagsOfFirst({ pending, sigmask, task }: TracedThread, actions: Actions): bigint | undefined {
  for (const queue of [pending, task.sharedPending]) {
    for (const signal of queue.map((info) => info.readInt32LE(0)).sort((a, b) => a - b)) {
      const action = actions[SIGNALS.indexOf(signal)];
      const isBlocked = (sigmask & (1n << BigInt(signal - 1))) !== 0n;
      if (!isBlocked && action !== undefined && action.sigaction > SIG_IGN) return action.flags;
    }
  }
  return undefined;
}

/** Ends the calls of a process's threads that a handler ends. `cores`: those of the threads; `actions`: what the process does at signals. */
export function endByDueHandlers(threads: readonly TracedThread[], cores: readonly CoreEntry[], actions: Actions): void {
  for (const [i, thread] of threads.entries()) {
    const core = cores[i];
    if (core === undefined || !arch.isInterruptedCall(thread.regs)) continue;
    const flags = flagsOfFirst(thread, actions);
    if (flags === undefined || !arch.endsByHandler(thread.regs, (flags & SA_RESTART) !== 0n)) continue;
    if (core.thread_info !== undefined) core.thread_info.gpregs = gpregsToImage(arch.interruptedRegs(thread.regs));
    if (core.thread_core !== undefined) delete core.thread_core.restart;
  }
}

/** The timed call that a saved thread is in, and where it begins; in the image it has ended with EINTR, or is about to begin again. */
function savedCall(core: CoreEntry, regs: Buffer): { call: TimedCall; begin: bigint } | undefined {
  const saved = core.thread_core?.restart;
  const call = saved && numberedCall(saved.nr, argumentsIn(regs), isCompat(core));
  if (call === undefined) return undefined;
  const hasEnded = BigInt.asIntN(call.isCompat ? 32 : 64, getReg(regs, "rax")) === -EINTR;
  return { call, begin: hasEnded ? beginningOf(getReg(regs, "rip")) : getReg(regs, "rip") };
}

function withCall(regs: Buffer, rax: bigint, rip: bigint): Buffer {
  const out = Buffer.from(regs);
  setReg(out, "rax", rax);
  setReg(out, "rip", rip);
  return out;
}

/** Registers of a thread whose timed call begins again; `regs` are those of the image. */
export function startCallAgain(core: CoreEntry, regs: Buffer): Buffer {
  const found = savedCall(core, regs);
  return found === undefined ? regs : withCall(regs, BigInt(found.call.nr), found.begin);
}

/** Registers of a thread that is to go on in a timed call, which it is put into; `regs` are those of the image. */
export function goOnInCall(thread: TracedThread, core: CoreEntry, regs: Buffer): Buffer {
  const found = savedCall(core, regs);
  if (found === undefined) return regs;
  const { call, begin } = found;
  const leftNs = core.thread_core?.restart?.left_ns ?? 0n;
  const entered = enterCall(thread, call, { leftNs, scratch: (getReg(regs, "rsp") - BELOW_STACK) & ~15n });
  if (entered.kind === "restart") return withCall(regs, BigInt(call.isCompat ? RESTART_SYSCALL.compat : RESTART_SYSCALL.native), begin);
  if (isOver(call, entered.result)) return withCall(regs, entered.result, afterCall(begin));
  // Something has happened, and is about to be said again.
  return withCall(regs, BigInt(call.nr), begin);
}

const ETIMEDOUT = 110n;

/** Whether the call has ended because its time was over. */
function isOver({ kind }: TimedCall, result: bigint): boolean {
  return kind === "futex" ? result === -ETIMEDOUT : result === 0n;
}
