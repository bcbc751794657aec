/**
 * ptrace(2) and the wait(2) that belongs to it, one function per request.
 *
 * The requests speak to a thread by its tid and must all come from the operating-system thread that seized it; Floe's
 * engine is synchronous for that reason. Constants: uapi/linux/ptrace.h, uapi/asm/ptrace-abi.h, uapi/linux/wait.h.
 */
import { kernelError } from "./errno.js";
import { addressOf, syscall, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const PTRACE_CONT = 7;
const PTRACE_GETREGS = 12;
const PTRACE_SETREGS = 13;
const PTRACE_DETACH = 17;
const PTRACE_SYSCALL = 24;
const PTRACE_GETSIGINFO = 0x4202;
export const PTRACE_GETREGSET = 0x4204;
const PTRACE_SETREGSET = 0x4205;
const PTRACE_SEIZE = 0x4206;
const PTRACE_INTERRUPT = 0x4207;
const PTRACE_PEEKSIGINFO = 0x4209;
const PTRACE_GETSIGMASK = 0x420a;
const PTRACE_SETSIGMASK = 0x420b;
const PTRACE_SECCOMP_GET_FILTER = 0x420c;
const PTRACE_SECCOMP_GET_METADATA = 0x420d;
const PTRACE_GET_RSEQ_CONFIGURATION = 0x420f;
const PTRACE_GET_THREAD_AREA = 25;
const PTRACE_SET_THREAD_AREA = 26;
const PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG = 0x4210;
const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG = 0x4211;

export const PTRACE_O_TRACESYSGOOD = 0x1;
export const PTRACE_O_EXITKILL = 0x100000;
export const PTRACE_O_SUSPEND_SECCOMP = 0x200000;

export const NT_PRSTATUS = 1;
export const NT_X86_XSTATE = 0x202;

/** waitpid(2) option: wait for threads and clone children too. */
export const __WALL = 0x40000000;
export const WNOHANG = 1;

const PTRACE_EVENT_STOP = 128;
const SIGTRAP = 5;

/** What wait(2) says about a thread. */
export type WaitStatus =
  | { readonly kind: "exited"; readonly code: number }
  | { readonly kind: "killed"; readonly signal: number }
  | { readonly kind: "signal-stop"; readonly signal: number }
  | { readonly kind: "syscall-stop" }
  | { readonly kind: "event-stop"; readonly signal: number }
  | { readonly kind: "event"; readonly event: number }
  | { readonly kind: "none" };

/** Takes the integer of wait(2) apart. */
export function waitStatus(status: number): WaitStatus {
  const low = status & 0x7f;
  if (low === 0) return { kind: "exited", code: (status >> 8) & 0xff };
  if (low !== 0x7f) return { kind: "killed", signal: low };
  const signal = (status >> 8) & 0xff;
  const event = status >> 16;
  if (event === PTRACE_EVENT_STOP) return { kind: "event-stop", signal };
  if (event !== 0) return { kind: "event", event };
  if (signal === (SIGTRAP | 0x80)) return { kind: "syscall-stop" };
  return { kind: "signal-stop", signal };
}

const statusBuffer = Buffer.alloc(4);
const statusAddress = addressOf(statusBuffer);

/**
 * pid_t waitpid(pid_t pid, int *wstatus, int options) — waits for the next change of thread `tid`, with `__WALL`.
 *
 * Retries on EINTR. Throws on ECHILD. With WNOHANG the kind is "none" when nothing happened.
 */
export function waitThread(tid: number, options = 0): WaitStatus {
  for (;;) {
    const got = syscallNumber(SYS.wait4, tid, statusAddress, __WALL | options, 0);
    if (got === -4) continue;
    if (got < 0) throw kernelError(`wait4(${tid})`, got);
    return got === 0 ? { kind: "none" } : waitStatus(statusBuffer.readInt32LE(0));
  }
}

function request(name: string, nr: number, tid: number, addr: number | bigint, data: number | bigint | Uint8Array): number {
  const result = syscallNumber(SYS.ptrace, nr, tid, addr, data);
  if (result < 0) throw kernelError(`ptrace(${name}, ${tid})`, result);
  return result;
}

/** ptrace(PTRACE_SEIZE) — attaches without stopping. Returns 0 or a negative errno (EPERM: traced already, zombie). */
export function ptraceSeize(tid: number, options: number): number {
  return syscallNumber(SYS.ptrace, PTRACE_SEIZE, tid, 0, options);
}

/** ptrace(PTRACE_INTERRUPT) — asks a seized thread to stop; the stop is an event-stop. Returns 0 or negative errno. */
export function ptraceInterrupt(tid: number): number {
  return syscallNumber(SYS.ptrace, PTRACE_INTERRUPT, tid, 0, 0);
}

/** ptrace(PTRACE_SETOPTIONS). */
export function ptraceSetOptions(tid: number, options: number): void {
  request("PTRACE_SETOPTIONS", 0x4200, tid, 0, options);
}

/** ptrace(PTRACE_CONT) — lets the thread run, delivering `signal` (0: none). */
export function ptraceCont(tid: number, signal = 0): void {
  request("PTRACE_CONT", PTRACE_CONT, tid, 0, signal);
}

/** ptrace(PTRACE_SYSCALL) — lets the thread run to the next entry to or exit from a system call. */
export function ptraceSyscall(tid: number, signal = 0): void {
  request("PTRACE_SYSCALL", PTRACE_SYSCALL, tid, 0, signal);
}

/** ptrace(PTRACE_DETACH) — lets go of the thread; it runs on (or stays in its group stop). Returns 0 or negative errno. */
export function ptraceDetach(tid: number, signal = 0): number {
  return syscallNumber(SYS.ptrace, PTRACE_DETACH, tid, 0, signal);
}

/** ptrace(PTRACE_GETREGS) — fills `regs` with struct user_regs_struct (27 × 8 bytes on x86-64). */
export function ptraceGetRegs(tid: number, regs: Uint8Array): void {
  request("PTRACE_GETREGS", PTRACE_GETREGS, tid, 0, regs);
}

/** ptrace(PTRACE_SETREGS) — sets the general registers. */
export function ptraceSetRegs(tid: number, regs: Uint8Array): void {
  request("PTRACE_SETREGS", PTRACE_SETREGS, tid, 0, regs);
}

const iovec = Buffer.alloc(16);

function regset(name: string, nr: number, tid: number, options: { type: number; memory: Uint8Array }): number {
  iovec.writeBigUInt64LE(addressOf(options.memory), 0);
  iovec.writeBigUInt64LE(BigInt(options.memory.length), 8);
  request(name, nr, tid, options.type, iovec);
  return Number(iovec.readBigUInt64LE(8));
}

/** ptrace(PTRACE_GETREGSET) — reads register set `type` (NT_…) into `memory`; returns the bytes the kernel gave. */
export function ptraceGetRegset(tid: number, type: number, memory: Uint8Array): number {
  return regset("PTRACE_GETREGSET", PTRACE_GETREGSET, tid, { type, memory });
}

/** ptrace(PTRACE_SETREGSET) — writes register set `type` from `memory`. */
export function ptraceSetRegset(tid: number, type: number, memory: Uint8Array): void {
  regset("PTRACE_SETREGSET", PTRACE_SETREGSET, tid, { type, memory });
}

const mask = Buffer.alloc(8);
const maskAddress = addressOf(mask);

/** ptrace(PTRACE_GETSIGMASK) — the blocked-signal mask, bit n-1 for signal n (of sigsuspend(2) & co.: the saved one). */
export function ptraceGetSigmask(tid: number): bigint {
  request("PTRACE_GETSIGMASK", PTRACE_GETSIGMASK, tid, 8, maskAddress);
  return mask.readBigUInt64LE(0);
}

/** ptrace(PTRACE_SETSIGMASK) — sets the blocked-signal mask. */
export function ptraceSetSigmask(tid: number, sigmask: bigint): void {
  mask.writeBigUInt64LE(BigInt.asUintN(64, sigmask), 0);
  request("PTRACE_SETSIGMASK", PTRACE_SETSIGMASK, tid, 8, maskAddress);
}

/** ptrace(PTRACE_GETSIGINFO) — siginfo_t (128 bytes) of the signal that caused the present stop. */
export function ptraceGetSiginfo(tid: number): Buffer {
  const info = Buffer.alloc(128);
  request("PTRACE_GETSIGINFO", PTRACE_GETSIGINFO, tid, 0, info);
  return info;
}

/**
 * ptrace(PTRACE_PEEKSIGINFO) — copies of queued signals, without taking them off the queue.
 *
 * `shared` selects the process's queue instead of the thread's own. Each element is a siginfo_t of 128 bytes.
 */
export function ptracePeekSiginfo(tid: number, shared: boolean): Buffer[] {
  const found: Buffer[] = [];
  peekArgs.writeUInt32LE(shared ? 1 : 0, 8);
  peekArgs.writeInt32LE(PEEK_BATCH, 12);
  for (;;) {
    peekArgs.writeBigUInt64LE(BigInt(found.length), 0);
    const n = request("PTRACE_PEEKSIGINFO", PTRACE_PEEKSIGINFO, tid, peekArgsAddress, peekedAddress);
    for (let i = 0; i < n; i++) found.push(Buffer.from(peeked.subarray(i * 128, (i + 1) * 128)));
    if (n < PEEK_BATCH) return found;
  }
}

const PEEK_BATCH = 32;
const peeked = Buffer.alloc(PEEK_BATCH * 128);
const peekedAddress = addressOf(peeked);
/** struct ptrace_peeksiginfo_args { u64 off; u32 flags; s32 nr; } */
const peekArgs = Buffer.alloc(16);
const peekArgsAddress = addressOf(peekArgs);

/** Registered rseq(2) area of a thread. */
export interface RseqConfiguration {
  readonly address: bigint;
  readonly sizeBytes: number;
  readonly signature: number;
  readonly flags: number;
}

/** ptrace(PTRACE_GET_RSEQ_CONFIGURATION), since 5.13 — the rseq registration, or undefined where the kernel cannot tell. */
export function ptraceGetRseqConfiguration(tid: number): RseqConfiguration | undefined {
  const memory = Buffer.alloc(24);
  const result = syscallNumber(SYS.ptrace, PTRACE_GET_RSEQ_CONFIGURATION, tid, memory.length, memory);
  if (result < 0) return undefined;
  return {
    address: memory.readBigUInt64LE(0),
    sizeBytes: memory.readUInt32LE(8),
    signature: memory.readUInt32LE(12),
    flags: memory.readUInt32LE(16),
  };
}

/** ptrace(PTRACE_SECCOMP_GET_FILTER) — instructions of filter `index` (0: installed first); ENOENT ends the chain. */
export function ptraceSeccompGetFilter(tid: number, index: number): Buffer | undefined {
  const count = syscallNumber(SYS.ptrace, PTRACE_SECCOMP_GET_FILTER, tid, index, 0);
  if (count === -2) return undefined;
  if (count < 0) throw kernelError(`ptrace(PTRACE_SECCOMP_GET_FILTER, ${tid}, ${index})`, count);
  const program = Buffer.alloc(count * 8);
  request("PTRACE_SECCOMP_GET_FILTER", PTRACE_SECCOMP_GET_FILTER, tid, index, program);
  return program;
}

/** ptrace(PTRACE_SECCOMP_GET_METADATA) — flags of filter `index` (SECCOMP_FILTER_FLAG_LOG), 0 where unknown. */
export function ptraceSeccompGetMetadata(tid: number, index: number): bigint {
  const memory = Buffer.alloc(16);
  memory.writeBigUInt64LE(BigInt(index), 0);
  const result = syscallNumber(SYS.ptrace, PTRACE_SECCOMP_GET_METADATA, tid, memory.length, memory);
  return result < 0 ? 0n : memory.readBigUInt64LE(8);
}

/** ptrace(PTRACE_GET_THREAD_AREA) — struct user_desc (16 bytes) of GDT slot `entry`, or undefined when there is none. */
export function ptraceGetThreadArea(tid: number, entry: number): Buffer | undefined {
  const memory = Buffer.alloc(16);
  return syscallNumber(SYS.ptrace, PTRACE_GET_THREAD_AREA, tid, entry, memory) < 0 ? undefined : memory;
}

/** ptrace(PTRACE_SET_THREAD_AREA) — sets GDT slot `entry` from struct user_desc. */
export function ptraceSetThreadArea(tid: number, entry: number, descriptor: Uint8Array): void {
  request("PTRACE_SET_THREAD_AREA", PTRACE_SET_THREAD_AREA, tid, entry, descriptor);
}

/** Syscall user dispatch of a thread: outside of [offset, offset + length) system calls become SIGSYS while the byte says so. */
export interface UserDispatch {
  /** Address of the byte; 0: always. */
  readonly selector: bigint;
  readonly offset: bigint;
  readonly length: bigint;
}

const PR_SYS_DISPATCH_OFF = 0n;
const PR_SYS_DISPATCH_ON = 1n;
const PR_SYS_DISPATCH_INCLUSIVE_ON = 2n;
const dispatchConfig = Buffer.alloc(32); // struct ptrace_sud_config: mode, selector, offset, length
const dispatchAddress = addressOf(dispatchConfig);

/** ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG), since 6.4 — undefined: off, or a kernel that cannot tell. */
export function ptraceGetUserDispatch(tid: number): UserDispatch | undefined {
  const result = syscallNumber(SYS.ptrace, PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, dispatchConfig.length, dispatchAddress);
  if (result < 0 || dispatchConfig.readBigUInt64LE(0) === PR_SYS_DISPATCH_OFF) return undefined;
  const [selector, offset, length] = [8, 16, 24].map((at) => dispatchConfig.readBigUInt64LE(at)) as [bigint, bigint, bigint];
  return { selector, offset, length };
}

/** What the kernel is asked for to have a dispatch as it was told. */
export function dispatchRequest({ selector, offset, length }: UserDispatch): UserDispatch & { readonly mode: bigint } {
  // The kernel keeps a range that is to be dispatched as its complement, which wraps around; it takes it the way it was given.
  const isComplement = offset + length >= 1n << 64n;
  if (!isComplement) return { mode: PR_SYS_DISPATCH_ON, selector, offset, length };
  return {
    mode: PR_SYS_DISPATCH_INCLUSIVE_ON,
    selector,
    offset: BigInt.asUintN(64, offset + length),
    length: BigInt.asUintN(64, -length),
  };
}

const NO_DISPATCH = { mode: PR_SYS_DISPATCH_OFF, selector: 0n, offset: 0n, length: 0n };

/** ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG); undefined switches it off. */
export function ptraceSetUserDispatch(tid: number, dispatch: UserDispatch | undefined): void {
  const { mode, selector, offset, length } = dispatch === undefined ? NO_DISPATCH : dispatchRequest(dispatch);
  [mode, selector, offset, length].forEach((word, i) => dispatchConfig.writeBigUInt64LE(word, i * 8));
  request("PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG", PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, tid, dispatchConfig.length, dispatchConfig);
}

const single = Buffer.alloc(16);
const remote = Buffer.alloc(16);

/** process_vm_readv(2) of one range; returns the bytes read, or a negative errno. */
export function readProcessMemory(pid: number, address: bigint, into: Uint8Array): number {
  return transfer(SYS.process_vm_readv, pid, address, into);
}

/** process_vm_writev(2) of one range; returns the bytes written, or a negative errno. */
export function writeProcessMemory(pid: number, address: bigint, from: Uint8Array): number {
  return transfer(SYS.process_vm_writev, pid, address, from);
}

function transfer(nr: number, pid: number, address: bigint, memory: Uint8Array): number {
  single.writeBigUInt64LE(addressOf(memory), 0);
  single.writeBigUInt64LE(BigInt(memory.length), 8);
  remote.writeBigUInt64LE(address, 0);
  remote.writeBigUInt64LE(BigInt(memory.length), 8);
  return Number(syscall(nr, pid, single, 1, remote, 1, 0));
}

/** Bytes and where they belong in another process. */
export interface Piece {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** Pieces that one call can take (UIO_MAXIOV). */
const MAX_PIECES = 1024;
const here = Buffer.alloc(MAX_PIECES * 16);
const there = Buffer.alloc(MAX_PIECES * 16);
const thereAddress = addressOf(there);

/** process_vm_writev(2) of many ranges; returns whether all of them were written, or a negative errno. */
export function writeProcessMemoryPieces(pid: number, pieces: readonly Piece[]): boolean | number {
  for (let from = 0; from < pieces.length; from += MAX_PIECES) {
    const some = pieces.slice(from, from + MAX_PIECES);
    const bytes = fillVectors(some);
    const wrote = Number(syscall(SYS.process_vm_writev, pid, here, some.length, there, some.length, 0));
    if (wrote !== bytes) return wrote < 0 ? wrote : false;
  }
  return true;
}

/** process_vm_readv(2) of at most 1024 ranges into the pieces' bytes; returns the bytes read, or a negative errno. */
export function readProcessMemoryPieces(pid: number, pieces: readonly Piece[]): number {
  fillVectors(pieces);
  return Number(syscall(SYS.process_vm_readv, pid, here, pieces.length, there, pieces.length, 0));
}

/** Where things lie in another process: address and length of each range in turn, at most 1024 ranges. */
export type RemoteRanges = readonly number[];

/** process_vm_writev(2) of `bytes` to ranges of another process, one behind the other; returns the bytes written, or a negative errno. */
export function scatterToProcess(pid: number, bytes: Uint8Array, ranges: RemoteRanges): number {
  return transferRanges(SYS.process_vm_writev, pid, bytes, ranges);
}

/** process_vm_readv(2) of ranges of another process into `bytes`, one behind the other; returns the bytes read, or a negative errno. */
export function gatherFromProcess(pid: number, bytes: Uint8Array, ranges: RemoteRanges): number {
  return transferRanges(SYS.process_vm_readv, pid, bytes, ranges);
}

const thereHalves = new Int32Array(there.buffer, there.byteOffset, there.length / 4);

function transferRanges(nr: number, pid: number, bytes: Uint8Array, ranges: RemoteRanges): number {
  for (let i = 0; i < ranges.length; i++) {
    const value = ranges[i] as number;
    thereHalves[i * 2] = value | 0;
    thereHalves[i * 2 + 1] = Math.floor(value / 2 ** 32);
  }
  single.writeBigUInt64LE(addressOf(bytes), 0);
  single.writeBigUInt64LE(BigInt(bytes.length), 8);
  return syscallNumber(nr, pid, single, 1, thereAddress, ranges.length / 2, 0);
}

function fillVectors(pieces: readonly Piece[]): number {
  let total = 0;
  pieces.forEach(({ address, bytes }, i) => {
    here.writeBigUInt64LE(addressOf(bytes), i * 16);
    here.writeBigUInt64LE(BigInt(bytes.length), i * 16 + 8);
    there.writeBigUInt64LE(address, i * 16);
    there.writeBigUInt64LE(BigInt(bytes.length), i * 16 + 8);
    total += bytes.length;
  });
  return total;
}
