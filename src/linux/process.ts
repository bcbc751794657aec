/**
 * Processes: pidfd_open(2) and relatives, kcmp(2), clone3(2)'s struct, wait4(2), process groups.
 *
 * Constants: uapi/linux/kcmp.h, uapi/linux/sched.h, uapi/linux/wait.h, uapi/linux/pidfd.h.
 */
import { ERRNO, checked, kernelError } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { type WaitStatus, waitStatus } from "./ptrace.js";
import { SYS } from "./syscalls.js";

/** O_EXCL: a pidfd for one thread instead of the process, since 6.9. */
export const PIDFD_THREAD = 0o200;
export const PIDFD_NONBLOCK = 0o4000;

/** int pidfd_open(pid_t pid, unsigned int flags) — a descriptor for a process, close-on-exec; since 5.3. */
export function pidfdOpen(pid: number, flags = 0): number {
  let fd = syscallNumber(SYS.pidfd_open, pid, flags);
  // Not the first thread of a process: it gives a descriptor only for itself, which opens the same files.
  if (fd === -ERRNO.ENOENT || fd === -ERRNO.EINVAL) fd = syscallNumber(SYS.pidfd_open, pid, flags | PIDFD_THREAD);
  return checked(fd, () => `pidfd_open(${pid}, ${flags})`);
}

/**
 * int pidfd_getfd(int pidfd, int targetfd, unsigned int flags) — duplicates a descriptor of that process; since 5.6.
 *
 * The result is the lowest free number and close-on-exec. Needs PTRACE_MODE_ATTACH rights; ESRCH when it is dead.
 */
export function pidfdGetfd(pidfd: number, targetFd: number): number {
  return checked(syscallNumber(SYS.pidfd_getfd, pidfd, targetFd, 0), () => `pidfd_getfd(${pidfd}, ${targetFd})`);
}

export const KCMP_FILE = 0;
export const KCMP_VM = 1;
export const KCMP_FILES = 2;
export const KCMP_FS = 3;
export const KCMP_SIGHAND = 4;
export const KCMP_IO = 5;
export const KCMP_SYSVSEM = 6;
export const KCMP_EPOLL_TFD = 7;

/** An order of kernel objects that holds until reboot: 0 the same, negative or positive when the first sorts before or behind. */
export type KernelOrder = number;

function order(result: number, call: () => string): KernelOrder {
  switch (checked(result, call)) {
    case 0:
      return 0;
    case 1:
      return -1;
    case 2:
      return 1;
    default: // 3: different, but the kernel keeps the order to itself
      throw kernelError(call(), ERRNO.EPERM);
  }
}

/** int kcmp(pid_t pid1, pid_t pid2, int type, …) — compares what two processes hold as `type` (KCMP_VM, KCMP_FS, …). */
export function kcmp(type: number, pid1: number, pid2: number): KernelOrder {
  return order(syscallNumber(SYS.kcmp, pid1, pid2, type, 0, 0), () => `kcmp(${pid1}, ${pid2}, ${type})`);
}

/** A descriptor of a process. */
export interface DescriptorOf {
  readonly pid: number;
  readonly fd: number;
}

/** kcmp(…, KCMP_FILE, …) — compares the open file descriptions behind two descriptors. */
export function kcmpFile(a: DescriptorOf, b: DescriptorOf): KernelOrder {
  return order(syscallNumber(SYS.kcmp, a.pid, b.pid, KCMP_FILE, a.fd, b.fd), () => `kcmp(${a.pid}, ${b.pid}, KCMP_FILE, ${a.fd}, ${b.fd})`);
}

/** What an epoll watches: the `skip`-th of its targets that were added under number `tfd`. */
export interface EpollSlot {
  readonly pid: number;
  readonly epollFd: number;
  readonly tfd: number;
  readonly skip: number;
}

/** kcmp(…, KCMP_EPOLL_TFD, …) — compares a descriptor with a target of an epoll; ENOENT when it has no such target. */
export function kcmpEpollTarget(a: DescriptorOf, slot: EpollSlot): KernelOrder {
  const bytes = Buffer.alloc(12); // struct kcmp_epoll_slot
  bytes.writeUInt32LE(slot.epollFd, 0);
  bytes.writeUInt32LE(slot.tfd, 4);
  bytes.writeUInt32LE(slot.skip, 8);
  return order(
    syscallNumber(SYS.kcmp, a.pid, slot.pid, KCMP_EPOLL_TFD, a.fd, bytes),
    () => `kcmp(${a.pid}, ${slot.pid}, KCMP_EPOLL_TFD, ${a.fd}, {${slot.epollFd}, ${slot.tfd}, ${slot.skip}})`,
  );
}

export const CLONE_VM = 0x100n;
export const CLONE_FS = 0x200n;
export const CLONE_FILES = 0x400n;
export const CLONE_SIGHAND = 0x800n;
export const CLONE_PIDFD = 0x1000n;
export const CLONE_PTRACE = 0x2000n;
export const CLONE_VFORK = 0x4000n;
export const CLONE_PARENT = 0x8000n;
export const CLONE_THREAD = 0x10000n;
export const CLONE_SYSVSEM = 0x40000n;
export const CLONE_SETTLS = 0x80000n;
export const CLONE_PARENT_SETTID = 0x100000n;
export const CLONE_CHILD_CLEARTID = 0x200000n;
export const CLONE_UNTRACED = 0x800000n;
export const CLONE_CHILD_SETTID = 0x1000000n;
export const CLONE_IO = 0x80000000n;
export const CLONE_CLEAR_SIGHAND = 0x100000000n;
export const CLONE_INTO_CGROUP = 0x200000000n;

/** struct clone_args; what is not given is 0. Pointers are addresses in the process that makes the call. */
export interface CloneArgs {
  readonly flags: bigint;
  readonly pidfd?: bigint;
  readonly childTid?: bigint;
  readonly parentTid?: bigint;
  readonly exitSignal?: number;
  readonly stack?: bigint;
  readonly stackSizeBytes?: bigint;
  readonly tls?: bigint;
  /** Address of an array of `setTidCount` pids, innermost pid namespace first. */
  readonly setTid?: bigint;
  readonly setTidCount?: number;
  readonly cgroup?: number;
}

/** CLONE_ARGS_SIZE_VER2. */
export const CLONE_ARGS_BYTES = 88;

export function encodeCloneArgs(args: CloneArgs): Buffer {
  const bytes = Buffer.alloc(CLONE_ARGS_BYTES);
  const fields = [
    args.flags,
    args.pidfd,
    args.childTid,
    args.parentTid,
    BigInt(args.exitSignal ?? 0),
    args.stack,
    args.stackSizeBytes,
    args.tls,
    args.setTid,
    BigInt(args.setTidCount ?? 0),
    BigInt(args.cgroup ?? 0),
  ];
  fields.forEach((value, i) => bytes.writeBigUInt64LE(value ?? 0n, i * 8));
  return bytes;
}

export const WNOHANG = 1;
export const WUNTRACED = 2;
export const WEXITED = 4;
export const WCONTINUED = 8;
export const WNOWAIT = 0x0100_0000;
export const __WALL = 0x4000_0000;

/** What wait(2) tells of a child. */
export type ChildStatus = WaitStatus | { readonly kind: "continued" };

const CONTINUED_STATUS = 0xffff;

/**
 * pid_t wait4(pid_t pid, int *wstatus, int options, struct rusage *rusage) — waits for a child; retries on EINTR.
 *
 * Undefined when nothing has happened (WNOHANG) or there is no such child (ECHILD).
 */
export function waitChild(
  pid: number,
  options = 0,
): { readonly pid: number; readonly status: ChildStatus; readonly raw: number } | undefined {
  const bytes = Buffer.alloc(4);
  for (;;) {
    const got = syscallNumber(SYS.wait4, pid, bytes, options, 0);
    if (got === -ERRNO.EINTR) continue;
    if (got === 0 || got === -ERRNO.ECHILD) return undefined;
    checked(got, () => `wait4(${pid}, ${options})`);
    const raw = bytes.readInt32LE(0);
    return { pid: got, status: raw === CONTINUED_STATUS ? { kind: "continued" } : waitStatus(raw), raw };
  }
}

const P_PID = 1;
const SIGINFO_BYTES = 128;

/** The code (CLD_…) and status of a child as waitid(2) gives them. */
export interface ChildInfo {
  readonly pid: number;
  /** CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3, CLD_TRAPPED 4, CLD_STOPPED 5, CLD_CONTINUED 6. */
  readonly code: number;
  /** Exit code, or signal. */
  readonly status: number;
}

/** int waitid(idtype_t idtype, id_t id, siginfo_t *infop, int options) — with WNOWAIT the child stays waitable. */
export function waitid(pid: number, options: number): ChildInfo | undefined {
  const bytes = Buffer.alloc(SIGINFO_BYTES);
  let got: number;
  do got = syscallNumber(SYS.waitid, P_PID, pid, bytes, options, 0);
  while (got === -ERRNO.EINTR);
  if (got === -ERRNO.ECHILD) return undefined;
  checked(got, () => `waitid(P_PID, ${pid}, ${options})`);
  const child = bytes.readInt32LE(16);
  return child === 0 ? undefined : { pid: child, code: bytes.readInt32LE(8), status: bytes.readInt32LE(24) };
}

/** pid_t getpgid(pid_t pid). */
export function getpgid(pid: number): number {
  return checked(syscallNumber(SYS.getpgid, pid), () => `getpgid(${pid})`);
}

/** int setpgid(pid_t pid, pid_t pgid). */
export function setpgid(pid: number, pgid: number): void {
  checked(syscallNumber(SYS.setpgid, pid, pgid), () => `setpgid(${pid}, ${pgid})`);
}

/** pid_t getsid(pid_t pid). */
export function getsid(pid: number): number {
  return checked(syscallNumber(SYS.getsid, pid), () => `getsid(${pid})`);
}

/** int personality(unsigned long persona) — 0xffffffff only asks. */
export function personality(persona = 0xffff_ffff): number {
  return checked(syscallNumber(SYS.personality, persona), () => `personality(${persona})`);
}
