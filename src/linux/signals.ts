/**
 * signal(7): numbers, struct sigaction, siginfo_t, stack_t, and sending signals.
 *
 * Constants: uapi/asm/signal.h, uapi/asm-generic/signal-defs.h, uapi/asm-generic/siginfo.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const SIGHUP = 1;
export const SIGINT = 2;
export const SIGQUIT = 3;
export const SIGILL = 4;
export const SIGTRAP = 5;
export const SIGABRT = 6;
export const SIGBUS = 7;
export const SIGFPE = 8;
export const SIGKILL = 9;
export const SIGUSR1 = 10;
export const SIGSEGV = 11;
export const SIGUSR2 = 12;
export const SIGPIPE = 13;
export const SIGALRM = 14;
export const SIGTERM = 15;
export const SIGSTKFLT = 16;
export const SIGCHLD = 17;
export const SIGCONT = 18;
export const SIGSTOP = 19;
export const SIGTSTP = 20;
export const SIGTTIN = 21;
export const SIGTTOU = 22;
export const SIGURG = 23;
export const SIGXCPU = 24;
export const SIGXFSZ = 25;
export const SIGVTALRM = 26;
export const SIGPROF = 27;
export const SIGWINCH = 28;
export const SIGIO = 29;
export const SIGPWR = 30;
export const SIGSYS = 31;
/** First real-time signal of the kernel (glibc keeps 32 and 33 for itself). */
export const SIGRTMIN = 32;
/** Highest signal. */
export const SIGRTMAX = 64;

/** Bytes of the kernel's sigset_t: the size argument of the rt_sig… calls. */
export const SIGSET_BYTES = 8;

export const SA_NOCLDSTOP = 0x1;
export const SA_NOCLDWAIT = 0x2;
export const SA_SIGINFO = 0x4;
export const SA_RESTORER = 0x0400_0000;
export const SA_ONSTACK = 0x0800_0000;
export const SA_RESTART = 0x1000_0000;
export const SA_NODEFER = 0x4000_0000;
export const SA_RESETHAND = 0x8000_0000;

export const SIG_DFL = 0n;
export const SIG_IGN = 1n;

export const SIG_BLOCK = 0;
export const SIG_UNBLOCK = 1;
export const SIG_SETMASK = 2;

export const SI_USER = 0;
export const SI_KERNEL = 0x80;
export const SI_QUEUE = -1;
export const SI_TIMER = -2;
export const SI_MESGQ = -3;
export const SI_ASYNCIO = -4;
export const SI_SIGIO = -5;
export const SI_TKILL = -6;

/** Bit of a signal in a mask. */
export function signalBit(signal: number): bigint {
  return 1n << BigInt(signal - 1);
}

/** Signals of a mask, ascending. */
export function signalsOf(mask: bigint): number[] {
  return Array.from({ length: SIGRTMAX }, (_, i) => i + 1).filter((signal) => (mask & signalBit(signal)) !== 0n);
}

/** struct kernel_sigaction of rt_sigaction(2). */
export interface SigAction {
  readonly handler: bigint;
  readonly flags: bigint;
  readonly restorer: bigint;
  readonly mask: bigint;
}

export const SIGACTION_BYTES = 32;

export function encodeSigAction(action: SigAction): Buffer {
  const bytes = Buffer.alloc(SIGACTION_BYTES);
  bytes.writeBigUInt64LE(action.handler, 0);
  bytes.writeBigUInt64LE(action.flags, 8);
  bytes.writeBigUInt64LE(action.restorer, 16);
  bytes.writeBigUInt64LE(action.mask, 24);
  return bytes;
}

export function decodeSigAction(bytes: Buffer): SigAction {
  return {
    handler: bytes.readBigUInt64LE(0),
    flags: bytes.readBigUInt64LE(8),
    restorer: bytes.readBigUInt64LE(16),
    mask: bytes.readBigUInt64LE(24),
  };
}

export const SS_ONSTACK = 1;
export const SS_DISABLE = 2;
export const SS_AUTODISARM = 0x8000_0000;

/** stack_t of sigaltstack(2). */
export interface SignalStack {
  readonly address: bigint;
  /** SS_…, unsigned. */
  readonly flags: number;
  readonly sizeBytes: bigint;
}

export const STACK_T_BYTES = 24;

export function encodeSignalStack(stack: SignalStack): Buffer {
  const bytes = Buffer.alloc(STACK_T_BYTES);
  bytes.writeBigUInt64LE(stack.address, 0);
  bytes.writeUInt32LE(stack.flags, 8);
  bytes.writeBigUInt64LE(stack.sizeBytes, 16);
  return bytes;
}

export function decodeSignalStack(bytes: Buffer): SignalStack {
  return { address: bytes.readBigUInt64LE(0), flags: bytes.readUInt32LE(8), sizeBytes: bytes.readBigUInt64LE(16) };
}

/** siginfo_t as far as signals from other processes use it: kill(2), sigqueue(3), mq_notify(3), SIGCHLD. */
export interface SigInfo {
  readonly signal: number;
  readonly errno: number;
  /** SI_… or the code of the signal's own kind. */
  readonly code: number;
  /** Sender; of SI_TIMER the timer's id. */
  readonly pid: number;
  /** Sender's user id; of SI_TIMER the overrun count. */
  readonly uid: number;
  /** sigval, or the status of SIGCHLD. */
  readonly value: bigint;
}

export const SIGINFO_BYTES = 128;

export function encodeSigInfo(info: SigInfo): Buffer {
  const bytes = Buffer.alloc(SIGINFO_BYTES);
  bytes.writeInt32LE(info.signal, 0);
  bytes.writeInt32LE(info.errno, 4);
  bytes.writeInt32LE(info.code, 8);
  bytes.writeInt32LE(info.pid, 16);
  bytes.writeUInt32LE(info.uid, 20);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, info.value), 24);
  return bytes;
}

export function decodeSigInfo(bytes: Buffer): SigInfo {
  return {
    signal: bytes.readInt32LE(0),
    errno: bytes.readInt32LE(4),
    code: bytes.readInt32LE(8),
    pid: bytes.readInt32LE(16),
    uid: bytes.readUInt32LE(20),
    value: bytes.readBigUInt64LE(24),
  };
}

/** int kill(pid_t pid, int sig) — sends a signal to a process or (negative) a group; 0 only asks whether it exists. */
export function kill(pid: number, signal: number): void {
  checked(syscallNumber(SYS.kill, pid, signal), () => `kill(${pid}, ${signal})`);
}

/** int tgkill(pid_t tgid, pid_t tid, int sig) — sends a signal to one thread. */
export function tgkill(tgid: number, tid: number, signal: number): void {
  checked(syscallNumber(SYS.tgkill, tgid, tid, signal), () => `tgkill(${tgid}, ${tid}, ${signal})`);
}

/**
 * int rt_sigqueueinfo(pid_t tgid, int sig, siginfo_t *info) — queues a signal with the given siginfo for a process.
 *
 * Codes >= 0 and SI_TKILL are allowed to oneself only (EPERM).
 */
export function rtSigqueueinfo(tgid: number, signal: number, info: Uint8Array): void {
  checked(syscallNumber(SYS.rt_sigqueueinfo, tgid, signal, info), () => `rt_sigqueueinfo(${tgid}, ${signal})`);
}

/** int rt_tgsigqueueinfo(pid_t tgid, pid_t tid, int sig, siginfo_t *info) — the same for one thread. */
export function rtTgsigqueueinfo(thread: { tgid: number; tid: number }, signal: number, info: Uint8Array): void {
  checked(
    syscallNumber(SYS.rt_tgsigqueueinfo, thread.tgid, thread.tid, signal, info),
    () => `rt_tgsigqueueinfo(${thread.tgid}, ${thread.tid}, ${signal})`,
  );
}

/** int pidfd_send_signal(int pidfd, int sig, siginfo_t *info, unsigned int flags) — cannot hit a reused pid; since 5.1. */
export function pidfdSendSignal(pidfd: number, signal: number): void {
  checked(syscallNumber(SYS.pidfd_send_signal, pidfd, signal, 0, 0), () => `pidfd_send_signal(${pidfd}, ${signal})`);
}

/** int rt_sigprocmask(int how, …) — changes the mask of blocked signals of the calling thread; returns the old one. */
export function rtSigprocmask(how: number, mask: bigint): bigint {
  const bytes = Buffer.alloc(SIGSET_BYTES);
  const old = Buffer.alloc(SIGSET_BYTES);
  bytes.writeBigUInt64LE(mask, 0);
  checked(syscallNumber(SYS.rt_sigprocmask, how, bytes, old, SIGSET_BYTES), () => `rt_sigprocmask(${how})`);
  return old.readBigUInt64LE(0);
}

/** int signalfd4(int fd, const sigset_t *mask, size_t size, int flags) — `fd` -1 makes a new one. */
export function signalfd4(fd: number, mask: bigint, flags: number): number {
  const bytes = Buffer.alloc(SIGSET_BYTES);
  bytes.writeBigUInt64LE(mask, 0);
  return checked(syscallNumber(SYS.signalfd4, fd, bytes, SIGSET_BYTES, flags), () => `signalfd4(${fd}, ${mask}, ${flags})`);
}
