/**
 * Calls that end with EINTR whenever their thread is stopped, handler or not (signal(7)), though nothing has happened: where they wait
 * without a limit of time they can begin again, and the program sees no freeze.
 *
 * A freeze looks like a signal to the kernel, and these calls it does not begin again. With the code of a call that ends only where a handler
 * runs (ERESTARTNOHAND) it does, unless one does run: then the call ends with EINTR, as it would have. A call that has done part of its work never
 * ends with EINTR. One with a limit would wait all of it once more, again and again where a tree is dumped often: it ends, as ever.
 *
 * Sources: asm/unistd_64.h, asm/unistd_32.h; ipc(2); uapi/linux/io_uring.h.
 */
import { EINTR, ERESTARTNOHAND, type RegisterName, getReg, isCompat, resultOf, setReg } from "./registers.js";

/** The place of the limit among the arguments, and what it is there if there is none. */
interface Wait {
  readonly limitAt?: number;
  readonly isNone?: (value: bigint) => boolean;
  /** What else must hold of the arguments. */
  readonly when?: (args: readonly bigint[]) => boolean;
}

const isNegative = (value: bigint): boolean => BigInt.asIntN(32, value) < 0n;
const isNull = (value: bigint): boolean => value === 0n;

/** IORING_ENTER_EXT_ARG: a limit may lie in memory. */
const EXT_ARG = 8n;
const ioUringEnter: Wait = { when: (args) => ((args[3] ?? 0n) & EXT_ARG) === 0n };
/** ipc(2): the upper half of the number is a version. */
const IPC_SEMOP = 1n;
const IPC_SEMTIMEDOP = 4n;

function isIpcSemaphore(args: readonly bigint[]): boolean {
  const call = (args[0] ?? 0n) & 0xffffn;
  return call === IPC_SEMOP || (call === IPC_SEMTIMEDOP && args[5] === 0n);
}

const WAITS = new Map<number, Wait>([
  [232 /* epoll_wait */, { limitAt: 3, isNone: isNegative }],
  [281 /* epoll_pwait */, { limitAt: 3, isNone: isNegative }],
  [441 /* epoll_pwait2 */, { limitAt: 3, isNone: isNull }],
  [65 /* semop */, {}],
  [220 /* semtimedop */, { limitAt: 3, isNone: isNull }],
  [128 /* rt_sigtimedwait */, { limitAt: 2, isNone: isNull }],
  [208 /* io_getevents */, { limitAt: 4, isNone: isNull }],
  [426 /* io_uring_enter */, ioUringEnter],
]);

const WAITS_32 = new Map<number, Wait>([
  [256 /* epoll_wait */, { limitAt: 3, isNone: isNegative }],
  [319 /* epoll_pwait */, { limitAt: 3, isNone: isNegative }],
  [441 /* epoll_pwait2 */, { limitAt: 3, isNone: isNull }],
  [117 /* ipc */, { when: isIpcSemaphore }],
  [420 /* semtimedop_time64 */, { limitAt: 3, isNone: isNull }],
  [177 /* rt_sigtimedwait */, { limitAt: 2, isNone: isNull }],
  [421 /* rt_sigtimedwait_time64 */, { limitAt: 2, isNone: isNull }],
  [247 /* io_getevents */, { limitAt: 4, isNone: isNull }],
  [426 /* io_uring_enter */, ioUringEnter],
]);

const ARGUMENTS: readonly RegisterName[] = ["rdi", "rsi", "rdx", "r10", "r8", "r9"];
const ARGUMENTS_32: readonly RegisterName[] = ["rbx", "rcx", "rdx", "rsi", "rdi", "rbp"];

/**
 * Where our stop has ended a call with EINTR that waits without a limit: the registers with which the kernel begins it again, unless a
 * handler is due; undefined: all others.
 */
export function undisturbedRegs(regs: Buffer): Buffer | undefined {
  const orig = BigInt.asIntN(64, getReg(regs, "orig_rax"));
  if (orig < 0n || resultOf(regs) !== -EINTR || !isUnlimitedWait(Number(orig), regs)) return undefined;
  const out = Buffer.from(regs);
  setReg(out, "rax", -ERESTARTNOHAND);
  return out;
}

/** Whether call `nr`, with the arguments in these registers, waits without a limit, and ends whenever it is disturbed. */
function isUnlimitedWait(nr: number, regs: Buffer): boolean {
  const compat = isCompat(regs);
  const wait = (compat ? WAITS_32 : WAITS).get(nr);
  if (wait === undefined) return false;
  const args = (compat ? ARGUMENTS_32 : ARGUMENTS).map((name) => BigInt.asUintN(compat ? 32 : 64, getReg(regs, name)));
  const { limitAt, isNone, when } = wait;
  if (when !== undefined && !when(args)) return false;
  return limitAt === undefined || isNone?.(args[limitAt] ?? 0n) === true;
}
