/**
 * A process held by ptrace: its threads, their own registers and masks, and the region that holds our stub.
 */
import type { ProcStatus } from "../linux/proc/status.js";
import type { UserDispatch } from "../linux/ptrace.js";
import type { Slot } from "./region.js";

/** A thread that we have seized and stopped. */
export class TracedThread {
  /** Thread id as we see it. */
  readonly tid: number;
  /** Thread id in its own, innermost pid namespace. */
  nsTid: number;
  readonly task: TracedTask;
  /** Its own general registers, as they were when it stopped. */
  regs: Buffer = Buffer.alloc(0);
  /** Its own blocked-signal mask. */
  sigmask = 0n;
  /** Signals queued for this thread alone, as siginfo_t of 128 bytes. */
  pending: Buffer[] = [];
  /** Where its frame and table lie; undefined until the stub is in place. */
  slot: Slot | undefined;
  /** Whether the stop was a group stop (SIGSTOP and relatives), and by which signal; 0: running before. */
  stopSignal = 0;
  /** Syscall user dispatch, which is off while we hold the thread: it would hit our own calls. */
  userDispatch: UserDispatch | undefined;
  /** Whether its seccomp filters do not act while we hold it. */
  isSeccompSuspended = false;

  /** Its registers stand at the beginning of the stub, and it has run nothing there yet. */
  isAtStart = false;
  /** Descriptors in the task that are ours: it closes them itself when the tracer dies before it could. */
  strayFds: readonly number[] = [];

  constructor(task: TracedTask, tid: number) {
    this.task = task;
    this.tid = tid;
    this.nsTid = tid;
  }

  /** Sets which descriptors the task closes by itself should the tracer die; takes effect with the next program. */
  closeOnDeath(fds: readonly number[]): void {
    this.strayFds = fds;
  }
}

/** A process that we hold. */
export class TracedTask {
  /** Process id as we see it; when the first thread has ended, the id of a living one, which opens the same doors. */
  readonly pid: number;
  /** Process id as we see it, whoever lives. */
  readonly tgid: number;
  /** Process id in its own, innermost pid namespace. */
  nsPid: number;
  /** Whether that is ours too, so that its numbers are the same for both. */
  isInOurPidNamespace = true;
  readonly comm: string;
  /** What /proc says of it since it stands still. */
  status: ProcStatus | undefined;
  /** Living threads; the leader comes first. */
  readonly threads: TracedThread[] = [];
  /** Signals queued for the whole process, as siginfo_t of 128 bytes. */
  sharedPending: Buffer[] = [];
  /** Stub region: address and length in bytes; undefined until it is mapped. */
  region: { readonly address: bigint; readonly length: number } | undefined;
  /** Whether no other process that we hold has the same memory, as far as is known. */
  hasOwnMemory = false;
  /** Unused bytes in executable memory through which the task is entered and left. */
  cave: bigint | undefined;
  /** Slot of its leader in the region: another one than the first when it shares its memory with another process. */
  firstSlot = 0;
  /** Whether something is still to be run in it. */
  needsStub = true;
  /** Signal that ends a program: ignored by the task, not caught, not pending. */
  trapSignal = 23;
  /** Whether it is one that would end the task, and so has to be ignored while the stub is in place. */
  isTrapUnused = false;
  /** The action that it had before it was ignored (struct kernel_sigaction). */
  actionOfTrap: Buffer | undefined;
  /** Descriptor in it by which it takes others from Floe (lending.ts); undefined: it has none, or may not. */
  lender: number | undefined;

  constructor(pid: number, comm: string, tgid = pid) {
    this.pid = pid;
    this.tgid = tgid;
    this.nsPid = tgid;
    this.comm = comm;
  }

  /** Whether the first thread of the process has ended; its id is still the process's. */
  get hasLostLeader(): boolean {
    return this.pid !== this.tgid;
  }

  /** The thread that does what needs to be done once; the first one of the process, if that lives. */
  get leader(): TracedThread {
    const leader = this.threads[0];
    if (leader === undefined) throw new Error(`internal error: process ${this.pid} has no thread`);
    return leader;
  }
}
