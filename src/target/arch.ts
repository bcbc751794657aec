/**
 * What differs between processors, behind one interface. x86-64 is filled; aarch64 will be.
 */
import type { UserDispatch } from "../linux/ptrace.js";
import { CAVE, CAVE_CODE } from "./x86_64/cave.js";
import {
  REGS_BYTES,
  callRegs,
  caveImage,
  decidedRegs,
  getReg,
  isCompat,
  endsByHandler,
  interruptedRegs,
  isInterruptedCall,
  resumeRegs,
  setReg,
  stubFrame,
  stubRegs,
} from "./x86_64/registers.js";
import { undisturbedRegs } from "./x86_64/unlimited-waits.js";
import { seedEntry } from "./x86_64/seed-entry.js";
import { FRAME, STUB_CODE, STUB_STOP_OFFSET, STUB_SYSCALL_OFFSET } from "./x86_64/stub.js";

/** Where a thread's stub, table and frame lie, as addresses in the target. */
export interface StubPlace {
  readonly code: bigint;
  readonly table: bigint;
  readonly frame: bigint;
}

/** Whom the stub signals at the end of a program, and what it puts back when nobody traces it any more. */
export interface FrameInit {
  readonly tgid: number;
  readonly tid: number;
  readonly signal: number;
  readonly mask: bigint;
  readonly regs: Buffer;
  /** Syscall user dispatch, which is to be on again; undefined: the thread has none. */
  readonly dispatch?: UserDispatch | undefined;
}

/** The processor-dependent half of working inside a stopped thread. */
export interface Arch {
  readonly name: "x86_64" | "aarch64";
  readonly regsBytes: number;
  readonly stubCode: Uint8Array;
  /** Where a thread stands, relative to the stub, when a program has ended. */
  readonly stubStopOffset: number;
  /** A system-call instruction of the stub. */
  readonly stubSyscallOffset: number;
  /** What a seed begins with: it ends with its parent, and waits. */
  seedEntry(parent: number): Uint8Array;
  readonly frame: { readonly sizeBytes: number; readonly end: number; readonly cleanup: number };
  readonly caveBytes: number;
  /** Registers with which a frozen thread goes on: interrupted system calls are set to start again. */
  resumeRegs(regs: Buffer, keepsRestartBlock: boolean): Buffer;
  /** Whether the kernel itself would begin the thread's call again, or end it where a handler runs. */
  isInterruptedCall(regs: Buffer): boolean;
  /** The registers with which it decides that. */
  decidedRegs(regs: Buffer): Buffer;
  /** Registers with which a call goes on that our stop has ended without need; undefined: it has ended none. */
  undisturbedRegs(regs: Buffer): Buffer | undefined;
  /** Whether a handler ends that call; `restarts`: one that asks for calls to begin again. */
  endsByHandler(regs: Buffer, restarts: boolean): boolean;
  /** As behind a call that a handler has ended. */
  interruptedRegs(regs: Buffer): Buffer;
  stubRegs(regs: Buffer, where: StubPlace): Buffer;
  /** Registers that make one system call at the address `rip` of a system-call instruction. */
  callRegs(regs: Buffer, call: { rip: bigint; nr: number; args: readonly bigint[] }): Buffer;
  stubFrame(init: FrameInit): Buffer;
  /** Code that makes one call and goes on with `regs` and `mask` whether or not the tracer lives. */
  caveImage(regs: Buffer, mask: bigint): Buffer;
  /** Whether `bytes` are a cave that an earlier run left. */
  isCave(bytes: Buffer): boolean;
  /** Whether the thread runs the code of a smaller kind of processor (32 bits). */
  isCompat(regs: Buffer): boolean;
  instructionPointer(regs: Buffer): bigint;
  setInstructionPointer(regs: Buffer, address: bigint): void;
  /** Whether the thread was stopped in user code rather than inside a system call. */
  inUserCode(regs: Buffer): boolean;
  syscallResult(regs: Buffer): bigint;
}

const x86_64: Arch = {
  name: "x86_64",
  regsBytes: REGS_BYTES,
  stubCode: STUB_CODE,
  stubStopOffset: STUB_STOP_OFFSET,
  stubSyscallOffset: STUB_SYSCALL_OFFSET,
  seedEntry,
  frame: FRAME,
  caveBytes: Math.max(CAVE.sizeBytes, CAVE_CODE.length),
  resumeRegs,
  isInterruptedCall,
  decidedRegs,
  undisturbedRegs,
  endsByHandler,
  interruptedRegs,
  stubRegs,
  callRegs,
  stubFrame,
  caveImage,
  isCave: (bytes) => bytes.subarray(0, CAVE.jump).equals(CAVE_CODE.subarray(0, CAVE.jump)),
  isCompat,
  instructionPointer: (regs) => getReg(regs, "rip"),
  setInstructionPointer: (regs, address) => setReg(regs, "rip", address),
  inUserCode: (regs) => BigInt.asIntN(64, getReg(regs, "orig_rax")) < 0n,
  syscallResult: (regs) => BigInt.asIntN(64, getReg(regs, "rax")),
};

/** The processor this machine has. */
export const arch: Arch = x86_64;
