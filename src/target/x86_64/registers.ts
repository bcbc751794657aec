/**
 * General registers of a stopped thread: struct user_regs_struct (uapi/asm/ptrace.h, sys/user.h), 27 × 8 bytes.
 */
import { dispatchRequest } from "../../linux/ptrace.js";
import type { FrameInit } from "../arch.js";
import { CAVE, CAVE_CODE } from "./cave.js";
import { FRAME } from "./stub.js";

/** Index of each register in struct user_regs_struct. */
export const REG = {
  r15: 0,
  r14: 1,
  r13: 2,
  r12: 3,
  rbp: 4,
  rbx: 5,
  r11: 6,
  r10: 7,
  r9: 8,
  r8: 9,
  rax: 10,
  rcx: 11,
  rdx: 12,
  rsi: 13,
  rdi: 14,
  orig_rax: 15,
  rip: 16,
  cs: 17,
  eflags: 18,
  rsp: 19,
  ss: 20,
  fs_base: 21,
  gs_base: 22,
  ds: 23,
  es: 24,
  fs: 25,
  gs: 26,
} as const;

export type RegisterName = keyof typeof REG;

export const REGS_BYTES = 27 * 8;
/** Code segment of 64-bit and of 32-bit user code (asm/segment.h: __USER_CS, __USER32_CS). */
export const USER_CS = 0x33n;
export const USER32_CS = 0x23n;
const NO_SYSCALL = 0xffffffffffffffffn;
const TRAP_FLAG = 0x100n;

/** Reads one register out of the struct. */
export function getReg(regs: Buffer, name: RegisterName): bigint {
  return regs.readBigUInt64LE(REG[name] * 8);
}

/** Writes one register into the struct. */
export function setReg(regs: Buffer, name: RegisterName, value: bigint): void {
  regs.writeBigUInt64LE(BigInt.asUintN(64, value), REG[name] * 8);
}

/** Whether the thread runs 32-bit code. */
export function isCompat(regs: Buffer): boolean {
  return getReg(regs, "cs") === USER32_CS;
}

const ERESTARTSYS = 512n;
const ERESTARTNOINTR = 513n;
export const ERESTARTNOHAND = 514n;
const ERESTART_RESTARTBLOCK = 516n;
const NR_RESTART_SYSCALL = 219n;
const NR_RESTART_SYSCALL_32 = 0n;
const NR_POLL = 7n;
const NR_POLL_32 = 168n;
export const EINTR = 4n;

/**
 * The registers a frozen thread goes on with, in place or restored.
 *
 * A thread frozen inside a system call that the kernel wants to restart has a restart code in rax; the kernel would
 * rewind rip itself on its way out, but only when it leaves through its signal code. So the rewind is done here.
 * `keepsRestartBlock`: the task still has its restart_block (it was not killed meanwhile): a sleep goes on for the rest of
 * its time by restart_syscall(2). Otherwise the call ends with EINTR, as it does after a handler; but for poll(2), which
 * begins again with the time it was given: programs without handlers (tail) take EINTR for a failure there, signal(7).
 */
export function resumeRegs(regs: Buffer, keepsRestartBlock: boolean): Buffer {
  const out = Buffer.from(regs);
  const orig = BigInt.asIntN(64, getReg(regs, "orig_rax"));
  if (orig >= 0n) {
    const compat = isCompat(regs);
    const code = compat ? -BigInt.asIntN(32, getReg(regs, "rax")) : -BigInt.asIntN(64, getReg(regs, "rax"));
    if (code >= ERESTARTSYS && code <= ERESTARTNOHAND) {
      setReg(out, "rax", orig);
      setReg(out, "rip", getReg(regs, "rip") - 2n);
    } else if (code === ERESTART_RESTARTBLOCK) {
      if (keepsRestartBlock) {
        setReg(out, "rax", compat ? NR_RESTART_SYSCALL_32 : NR_RESTART_SYSCALL);
        setReg(out, "rip", getReg(regs, "rip") - 2n);
      } else if (orig === (compat ? NR_POLL_32 : NR_POLL)) {
        setReg(out, "rax", orig);
        setReg(out, "rip", getReg(regs, "rip") - 2n);
      } else setReg(out, "rax", -EINTR);
    }
  }
  setReg(out, "orig_rax", NO_SYSCALL);
  return out;
}

/** Whether a thread was frozen inside a call that the kernel itself would begin again, or end with EINTR where a handler runs first. */
export function isInterruptedCall(regs: Buffer): boolean {
  if (BigInt.asIntN(64, getReg(regs, "orig_rax")) < 0n) return false;
  const code = -resultOf(regs);
  return (code >= ERESTARTSYS && code <= ERESTARTNOHAND) || code === ERESTART_RESTARTBLOCK;
}

/**
 * The registers with which the kernel decides how an interrupted call goes on. It takes the result of a 32-bit call for a whole word, once
 * other calls have been made in the thread.
 */
export function decidedRegs(regs: Buffer): Buffer {
  const out = Buffer.from(regs);
  setReg(out, "rax", resultOf(regs));
  return out;
}

/** What a call has returned, which 32-bit code sees the lower half of. */
export function resultOf(regs: Buffer): bigint {
  return BigInt.asIntN(isCompat(regs) ? 32 : 64, getReg(regs, "rax"));
}

/** Whether a handler ends that call with EINTR; `restarts`: it asks for calls to begin again (SA_RESTART), which not all do (signal(7)). */
export function endsByHandler(regs: Buffer, restarts: boolean): boolean {
  if (!isInterruptedCall(regs)) return false;
  const code = -resultOf(regs);
  return code === ERESTARTSYS ? !restarts : code !== ERESTARTNOINTR;
}

/** The registers of a thread whose call has ended with EINTR. */
export function interruptedRegs(regs: Buffer): Buffer {
  const out = Buffer.from(regs);
  setReg(out, "rax", -EINTR);
  setReg(out, "orig_rax", NO_SYSCALL);
  return out;
}

/** Registers that start the stub in a thread whose own registers are `regs`; flags and rsp stay the thread's own. */
export function stubRegs(regs: Buffer, where: { code: bigint; table: bigint; frame: bigint }): Buffer {
  const out = Buffer.from(regs);
  setReg(out, "rip", where.code);
  setReg(out, "rbx", where.table);
  setReg(out, "rbp", where.frame);
  setReg(out, "orig_rax", NO_SYSCALL);
  setReg(out, "cs", USER_CS);
  setReg(out, "eflags", getReg(regs, "eflags") & ~TRAP_FLAG);
  return out;
}

/** Registers that make system call `nr` at `rip` (an address of a `syscall` instruction), everything else as in `regs`. */
export function callRegs(regs: Buffer, call: { rip: bigint; nr: number; args: readonly bigint[] }): Buffer {
  const out = Buffer.from(regs);
  setReg(out, "rip", call.rip);
  setReg(out, "rax", BigInt(call.nr));
  const names: readonly RegisterName[] = ["rdi", "rsi", "rdx", "r10", "r8", "r9"];
  call.args.forEach((a, i) => setReg(out, names[i] as RegisterName, a));
  setReg(out, "orig_rax", NO_SYSCALL);
  setReg(out, "cs", USER_CS);
  setReg(out, "eflags", getReg(regs, "eflags") & ~TRAP_FLAG);
  return out;
}

/** Offsets of the registers in the order in which a frame has them. */
const FRAME_ORDER = (["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rcx", "rdx", "rsi", "rdi", "rbx"] as const).map(
  (name) => REG[name] * 8,
);

/** A frame for the stub: whom to signal, and everything the tail needs to let the thread go on without us. */
export function stubFrame(init: FrameInit): Buffer {
  const frame = Buffer.alloc(FRAME.sizeBytes);
  const { regs } = init;
  frame.writeBigUInt64LE(BigInt(init.tgid), FRAME.tgid);
  frame.writeBigUInt64LE(BigInt(init.tid), FRAME.tid);
  frame.writeBigUInt64LE(BigInt(init.signal), FRAME.signal);
  frame.writeBigUInt64LE(BigInt.asUintN(64, init.mask), FRAME.mask);
  // By halves: thousands of frames are made while a tree stands still, and a bigint for each register takes longer than all else.
  for (let i = 0; i < FRAME_ORDER.length; i++) {
    const from = FRAME_ORDER[i] as number;
    frame.writeUInt32LE(regs.readUInt32LE(from), FRAME.registers + i * 8);
    frame.writeUInt32LE(regs.readUInt32LE(from + 4), FRAME.registers + i * 8 + 4);
  }
  frame.writeBigUInt64LE(getReg(regs, "rax"), FRAME.rax);
  const flags = getReg(regs, "eflags");
  // sahf takes SF ZF AF PF CF from AH; `add al, 0x7f` sets OF exactly when AL is 1.
  frame.writeBigUInt64LE(((flags & 0xd5n) << 8n) | ((flags >> 11n) & 1n), FRAME.flagWord);
  trampoline(regs).copy(frame, FRAME.trampoline);
  if (init.dispatch !== undefined) {
    const { mode, offset, length, selector } = dispatchRequest(init.dispatch);
    [mode, offset, length, selector].forEach((word, i) => frame.writeBigUInt64LE(word, FRAME.dispatch + i * 8));
  }
  return frame;
}

/** movabs rbp, imm64; then a jump through the 8 bytes behind it (a far one back to 32-bit code). */
function trampoline(regs: Buffer): Buffer {
  const out = Buffer.alloc(24);
  out.writeUInt16LE(0xbd48, 0);
  out.writeBigUInt64LE(getReg(regs, "rbp"), 2);
  out.writeUInt16LE(isCompat(regs) ? 0x2dff : 0x25ff, 10);
  out.writeInt32LE(0, 12);
  writeTarget(out, 16, regs);
  return out;
}

function writeTarget(out: Buffer, at: number, regs: Buffer): void {
  if (!isCompat(regs)) {
    out.writeBigUInt64LE(getReg(regs, "rip"), at);
    return;
  }
  out.writeUInt32LE(Number(getReg(regs, "rip") & 0xffffffffn), at);
  out.writeUInt16LE(Number(USER32_CS), at + 4);
}

/** The cave's bytes for a thread that has to go on with `regs` and `mask`. */
export function caveImage(regs: Buffer, mask: bigint): Buffer {
  const cave = Buffer.from(CAVE_CODE);
  cave.writeBigUInt64LE(BigInt.asUintN(64, mask), CAVE.mask);
  const order: readonly RegisterName[] = ["rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"];
  order.forEach((name, i) => cave.writeBigUInt64LE(getReg(regs, name), CAVE.slots + i * 8));
  if (isCompat(regs)) cave.writeUInt16LE(0x2dff, CAVE.jump);
  writeTarget(cave, CAVE.target, regs);
  return cave;
}
