/**
 * Timed system calls that were interrupted and that the kernel goes on with by restart_syscall(2), for the rest of their time: which
 * it is, and how a new thread gets into the same state.
 *
 * A thread is in it when it has made such a call itself and was interrupted in it. Sources: asm/unistd_64.h, asm/unistd_32.h; the
 * kernel's hrtimer_nanosleep(), do_restart_poll(), futex_wait_restart().
 */
import { ptraceCont, ptraceGetRegs, ptraceInterrupt, ptraceSetRegs, ptraceSyscall, waitThread } from "../../linux/ptrace.js";
import { arch } from "../arch.js";
import { resumeStrayStop, writeTarget } from "../run.js";
import type { TracedThread } from "../thread.js";
import { compatGate } from "./compat.js";
import { type RegisterName, USER_CS, getReg, isCompat, setReg } from "./registers.js";

export type TimedKind = "nanosleep" | "clock_nanosleep" | "poll" | "futex";

/** `narrow`: its struct timespec is of 32-bit words. */
interface Number {
  readonly nr: number;
  readonly kind: TimedKind;
  readonly narrow?: true;
}

const NUMBERS: readonly Number[] = [
  { nr: 35, kind: "nanosleep" },
  { nr: 230, kind: "clock_nanosleep" },
  { nr: 7, kind: "poll" },
  { nr: 202, kind: "futex" },
];
const NUMBERS_32: readonly Number[] = [
  { nr: 162, kind: "nanosleep", narrow: true },
  { nr: 267, kind: "clock_nanosleep", narrow: true },
  { nr: 407, kind: "clock_nanosleep" },
  { nr: 168, kind: "poll" },
  { nr: 240, kind: "futex", narrow: true },
  { nr: 422, kind: "futex" },
];
export const RESTART_SYSCALL = { native: 219, compat: 0 } as const;

const ARGUMENTS: readonly RegisterName[] = ["rdi", "rsi", "rdx", "r10", "r8", "r9"];
const ARGUMENTS_32: readonly RegisterName[] = ["rbx", "rcx", "rdx", "rsi", "rdi", "rbp"];
const ERESTART_RESTARTBLOCK = 516n;
const NO_SYSCALL = 0xffffffffffffffffn;
/** Bytes of `syscall`, and of `int $0x80`. */
const CALL_BYTES = 2n;
const NS_PER_S = 1_000_000_000n;
const NS_PER_MS = 1_000_000n;
/** uapi/linux/futex.h */
const FUTEX_CMD_MASK = 0x7f;
const FUTEX_WAIT = 0;
const FUTEX_WAIT_BITSET = 9;

/** A call as a frozen thread stands in it. */
export interface TimedCall {
  readonly isCompat: boolean;
  /** Undefined: the thread was interrupted in it before, and its number is not known any more. */
  readonly kind: TimedKind | undefined;
  readonly nr: number;
  readonly args: readonly bigint[];
}

/** The call in which a thread with these registers was interrupted; undefined: in none of these. */
export function timedCall(regs: Buffer): TimedCall | undefined {
  const orig = BigInt.asIntN(64, getReg(regs, "orig_rax"));
  const compat = isCompat(regs);
  const bits = compat ? 32 : 64;
  if (orig < 0n || -BigInt.asIntN(bits, getReg(regs, "rax")) !== ERESTART_RESTARTBLOCK) return undefined;
  const nr = Number(orig);
  const found = (compat ? NUMBERS_32 : NUMBERS).find((n) => n.nr === nr);
  if (found === undefined && nr !== (compat ? RESTART_SYSCALL.compat : RESTART_SYSCALL.native)) return undefined;
  return { isCompat: compat, kind: found?.kind, nr, args: argumentsIn(regs) };
}

/** The same call with its number found in another way. */
export function asKind(call: TimedCall, kind: TimedKind): TimedCall {
  if (call.kind !== undefined) return call;
  // The time is given by us: the wider of two calls takes it as well. Only what is left is written in the caller's way.
  const found = (call.isCompat ? NUMBERS_32 : NUMBERS).filter((n) => n.kind === kind).at(-1);
  return { ...call, kind, nr: found?.nr ?? call.nr };
}

/** A call by its number; undefined: none of these. */
export function numberedCall(nr: number, args: readonly bigint[], compat: boolean): TimedCall | undefined {
  const kind = (compat ? NUMBERS_32 : NUMBERS).find((n) => n.nr === nr)?.kind;
  return kind === undefined ? undefined : { isCompat: compat, kind, nr, args };
}

/** The arguments of a call in registers that have not changed since it was made. */
export function argumentsIn(regs: Buffer): bigint[] {
  const compat = isCompat(regs);
  return (compat ? ARGUMENTS_32 : ARGUMENTS).map((name) => BigInt.asUintN(compat ? 32 : 64, getReg(regs, name)));
}

/** Which argument is the address of the time asked for. */
const ASKED_AT = { nanosleep: 0, clock_nanosleep: 2, futex: 3 } as const;

/** Where a call keeps its times: the address of the time asked for, that of what is left (0: nowhere), the size of a word there. */
export function timesOf(call: TimedCall): { askedAt: number; asked: bigint; left: bigint; wordBytes: 4 | 8 } | undefined {
  const { args, kind } = call;
  if (kind === undefined || kind === "poll") return undefined;
  const askedAt = ASKED_AT[kind];
  const wordBytes = NUMBERS_32.some((n) => call.isCompat && n.nr === call.nr && n.narrow === true) ? 4 : 8;
  // What is left is told behind the time asked for; to a wait on a futex, never.
  return { askedAt, asked: args[askedAt] ?? 0n, left: kind === "futex" ? 0n : (args[askedAt + 1] ?? 0n), wordBytes };
}

/** Nanoseconds that poll(2) was told. */
export function pollNs(call: TimedCall): bigint {
  return BigInt.asIntN(32, call.args[2] ?? 0n) * NS_PER_MS;
}

/** Whether the time of the call is a moment, and not a length: made again, it ends when it should. */
export function isAbsolute(call: TimedCall): boolean {
  return call.kind === "futex" && (Number(call.args[1]) & FUTEX_CMD_MASK) === FUTEX_WAIT_BITSET;
}

/** Whether a call with these arguments can be a wait on a futex, or a relative sleep. */
export function looksLike(call: TimedCall, kind: TimedKind): boolean {
  const [first = 0n, second = 0n, third = 0n] = call.args;
  if (call.kind !== undefined) return call.kind === kind;
  if (kind === "futex") return [FUTEX_WAIT, FUTEX_WAIT_BITSET].includes(Number(BigInt.asUintN(32, second)) & FUTEX_CMD_MASK);
  // A clock is a small number, an address is none.
  const isClock = BigInt.asUintN(32, first) < 16n && second === 0n && third !== 0n;
  if (kind === "clock_nanosleep") return isClock;
  return kind === "nanosleep" ? !isClock : true;
}

/** struct timespec of a length. */
export function encodeTime(ns: bigint, wordBytes: 4 | 8): Buffer {
  const bytes = Buffer.alloc(2 * wordBytes);
  const parts = [ns / NS_PER_S, ns % NS_PER_S];
  parts.forEach((part, i) =>
    wordBytes === 8 ? bytes.writeBigInt64LE(part, i * 8) : bytes.writeInt32LE(Number(BigInt.asIntN(32, part)), i * 4),
  );
  return bytes;
}

/** The opposite. */
export function decodeTime(bytes: Buffer, wordBytes: 4 | 8): bigint {
  if (wordBytes === 8) return bytes.readBigInt64LE(0) * NS_PER_S + bytes.readBigInt64LE(8);
  return BigInt(bytes.readInt32LE(0)) * NS_PER_S + BigInt(bytes.readInt32LE(4));
}

/** Where a call that begins at `rip` ends. */
export function afterCall(rip: bigint): bigint {
  return rip + CALL_BYTES;
}

/** Where a call that ended at `rip` begins. */
export function beginningOf(rip: bigint): bigint {
  return rip - CALL_BYTES;
}

/** How a thread goes on that was to be put into a call. */
export type Entered = { readonly kind: "restart" } | { readonly kind: "ended"; readonly result: bigint };

/**
 * Has a thread that is parked at the stub make the call with `leftNs` to go, and interrupts it there: the kernel then keeps what is
 * left, to be gone on with by restart_syscall(2). Nothing may be run in the thread afterwards but calls that do not sleep.
 * `scratch`: where it has memory that it does not need.
 */
export function enterCall(thread: TracedThread, call: TimedCall, { leftNs, scratch }: { leftNs: bigint; scratch: bigint }): Entered {
  const { slot } = thread;
  if (slot === undefined) throw new Error(`internal error: thread ${thread.tid} has no stub`);
  // A 32-bit call takes addresses below 4 GiB only.
  const place = call.isCompat ? scratch : slot.table;
  const times = timesOf(call);
  const args = [...call.args];
  if (times === undefined) args[2] = BigInt.asUintN(31, (leftNs + NS_PER_MS - 1n) / NS_PER_MS);
  else {
    args[times.askedAt] = place;
    writeTarget(thread, place, encodeTime(leftNs, times.wordBytes));
  }
  const regs = Buffer.from(thread.regs);
  setReg(regs, "rip", call.isCompat ? compatGate(thread) : slot.code + BigInt(arch.stubSyscallOffset));
  setReg(regs, "rax", BigInt(call.nr));
  setReg(regs, "orig_rax", NO_SYSCALL);
  setReg(regs, "cs", USER_CS);
  args.forEach((value, i) => setReg(regs, (call.isCompat ? ARGUMENTS_32 : ARGUMENTS)[i] as RegisterName, value));
  ptraceSetRegs(thread.tid, regs);
  thread.isAtStart = false;
  interruptInCall(thread);
  ptraceGetRegs(thread.tid, regs);
  const result = BigInt.asIntN(call.isCompat ? 32 : 64, getReg(regs, "rax"));
  return -result === ERESTART_RESTARTBLOCK ? { kind: "restart" } : { kind: "ended", result };
}

/** To the beginning of the call; what asks it to stop is there before it goes in, so that it comes out at once. */
function interruptInCall(thread: TracedThread): void {
  ptraceSyscall(thread.tid);
  waitFor(thread, "syscall-stop", () => ptraceSyscall(thread.tid));
  ptraceInterrupt(thread.tid);
  ptraceCont(thread.tid);
  waitFor(thread, "event-stop", () => ptraceCont(thread.tid));
}

function waitFor(thread: TracedThread, kind: "syscall-stop" | "event-stop", goOn: () => void): void {
  for (;;) {
    const status = waitThread(thread.tid);
    if (status.kind === kind) return;
    if (status.kind === "event-stop") goOn();
    else resumeStrayStop(thread, status);
  }
}
