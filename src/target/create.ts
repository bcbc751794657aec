/**
 * Making processes and threads: clone3(2) executed by a task that we hold, with the pid given.
 */
import { kernelError } from "../linux/errno.js";
import { readStat } from "../linux/proc/read.js";
import { waitThread } from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { Program, type Result } from "./program.js";
import { run } from "./run.js";
import { outsideChild, outsideThread } from "./outside-pid.js";
import { adoptAllStopped, adoptStopped } from "./seed.js";
import { TracedTask, TracedThread } from "./thread.js";

/** Flags of clone3(2); uapi/linux/sched.h. */
export const CLONE = {
  VM: 0x100n,
  FS: 0x200n,
  FILES: 0x400n,
  SIGHAND: 0x800n,
  PTRACE: 0x2000n,
  PARENT: 0x8000n,
  THREAD: 0x10000n,
  SYSVSEM: 0x40000n,
} as const;

const CLONE_ARGS_BYTES = 88;
const SIGCHLD = 17;
const THREAD_FLAGS = CLONE.VM | CLONE.FS | CLONE.FILES | CLONE.SIGHAND | CLONE.THREAD | CLONE.SYSVSEM | CLONE.PTRACE;

/** Adds a clone3 with `pid` as the new task's id in the innermost pid namespace. */
function addClone(program: Program, clone: { pid: number; flags: bigint; exitSignal: bigint }): Result {
  const args = program.bytes(Buffer.alloc(CLONE_ARGS_BYTES));
  const setTid = program.bytes(Buffer.alloc(8));
  setTid.content.writeInt32LE(clone.pid, 0);
  args.content.writeBigUInt64LE(clone.flags, 0);
  args.content.writeBigUInt64LE(clone.exitSignal, 32);
  args.content.writeBigUInt64LE(1n, 72);
  program.storeAddress(args.at(64), setTid.at(0));
  return program.call(SYS.clone3, args, CLONE_ARGS_BYTES);
}

/** A process to be made. */
export interface NewTask {
  readonly pid: number;
  readonly comm: string;
  /** Child of the creator's parent instead of the creator's (CLONE_PARENT). */
  readonly asSibling: boolean;
  /** The signal by which the parent is told of its end, SIGCHLD by default; a sibling has its creator's. */
  readonly exitSignal?: number;
  /** Objects shared with the creator: CLONE.FILES, CLONE.FS, CLONE.VM, CLONE.SIGHAND. */
  readonly shares?: bigint;
  /** Of one that shares the creator's memory: the first slot of the region that is its own. */
  readonly firstSlot?: number;
}

/** Makes processes, all cloned from `creator` by one program; each is stopped and parked at the stub. */
export function createTasks(creator: TracedTask, wanted: readonly NewTask[]): TracedTask[] {
  const program = new Program();
  const results = wanted.map((w) =>
    addClone(program, {
      pid: w.pid,
      flags: CLONE.PTRACE | (w.asSibling ? CLONE.PARENT : 0n) | (w.shares ?? 0n),
      exitSignal: w.asSibling ? 0n : BigInt(w.exitSignal ?? SIGCHLD), // a sibling takes over the creator's exit signal; the kernel insists on 0
    }).must(`creating process ${w.pid} (${w.comm})`),
  );
  const made: TracedTask[] = [];
  let failure: unknown;
  try {
    run(creator.leader, program);
  } catch (error) {
    failure = error;
  }
  wanted.forEach((w, i) => {
    const result = results[i];
    if (result?.ran && result.errno === 0) made.push(adoptTask(creator, w, Number(result.value)));
  });
  if (failure !== undefined) throw new CreationError(failure, made);
  return made;
}

/** A creation that failed half-way: `made` must be killed with everything else. */
export class CreationError extends Error {
  override readonly name = "CreationError";
  readonly made: readonly TracedTask[];

  constructor(cause: unknown, made: readonly TracedTask[]) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.made = made;
  }
}

/** `inCreatorsNamespace`: the pid as clone3 returned it, which the creator sees; equal to ours in one pid namespace. */
function adoptTask(creator: TracedTask, wanted: NewTask, inCreatorsNamespace: number): TracedTask {
  const parent = wanted.asSibling ? parentOf(creator) : creator.pid;
  const hostPid = creator.isInOurPidNamespace ? inCreatorsNamespace : outsideChild(parent, inCreatorsNamespace);
  const task = new TracedTask(hostPid, wanted.comm);
  task.nsPid = wanted.pid;
  task.isInOurPidNamespace = creator.isInOurPidNamespace && hostPid === wanted.pid;
  task.region = creator.region;
  task.lender = creator.lender;
  task.firstSlot = wanted.firstSlot ?? 0;
  const thread = new TracedThread(task, hostPid);
  thread.nsTid = wanted.pid;
  task.threads.push(thread);
  waitFirstStop(thread);
  adoptStopped(thread, task.firstSlot);
  return task;
}

function parentOf({ pid }: TracedTask): number {
  return readStat(pid).ppid;
}

function waitFirstStop(thread: TracedThread): void {
  const status = waitThread(thread.tid);
  if (status.kind !== "event-stop") {
    throw kernelError(`new thread ${thread.tid} did not stop: ${JSON.stringify(status)}`, 3);
  }
}

/** Makes the other threads of a process, with the given tids, by one program in its leader. */
export function createThreads(task: TracedTask, tids: readonly number[]): void {
  if (tids.length === 0) return;
  const program = new Program();
  for (const tid of tids) {
    addClone(program, { pid: tid, flags: THREAD_FLAGS, exitSignal: 0n }).must(
      `creating thread ${tid} of process ${task.nsPid} (${task.comm})`,
    );
  }
  run(task.leader, program);
  const first = task.threads.length;
  for (const tid of tids) {
    const thread = new TracedThread(task, task.isInOurPidNamespace ? tid : outsideThread(task.pid, tid));
    thread.nsTid = tid;
    task.threads.push(thread);
    waitFirstStop(thread);
  }
  adoptAllStopped(task.threads.slice(first), task.firstSlot + first);
}
