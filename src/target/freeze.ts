/**
 * Freezing a process tree by ptrace: every thread of every process is seized and interrupted, again and again until no
 * new one appears; and letting it go.
 */
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { Refusal, UsageError } from "../errors.js";
import { readProc, readStat as readProcStat, readStatus } from "../linux/proc/read.js";
import { kernelError } from "../linux/errno.js";
import {
  PTRACE_O_SUSPEND_SECCOMP,
  PTRACE_O_TRACESYSGOOD,
  WNOHANG,
  type WaitStatus,
  ptraceCont,
  ptraceDetach,
  ptraceGetRegs,
  ptraceGetSigmask,
  ptraceGetUserDispatch,
  ptraceInterrupt,
  ptracePeekSiginfo,
  ptraceSeize,
  ptraceSetRegs,
  ptraceSetUserDispatch,
  waitThread,
} from "../linux/ptrace.js";
import { arch } from "./arch.js";
import { PF_WORKER } from "./prepared-threads.js";
import { leaveRestartableSequence } from "./rseq.js";
import { TracedTask, TracedThread } from "./thread.js";

const EPERM = 1;
const ESRCH = 3;
const SIGTRAP = 5;
/** SIGURG: a task that catches every signal, and has no other that can be ignored meanwhile, gets one if we are killed. */
export const LAST_CHOICE = 23;
/** Signals that are ignored by default: candidates for the end of a program (asm-generic/signal.h). */
const TRAP_CANDIDATES = [LAST_CHOICE, 28 /* SIGWINCH */, 17 /* SIGCHLD */, 18 /* SIGCONT */] as const;

/** Sending one of these takes a pending SIGCONT away, even when it is ignored. */
const STOP_SIGNALS: readonly number[] = [19, 20, 21, 22];
const LAST_SIGNAL = 64;
/** The kernel's SIGRTMIN. */
const FIRST_OF_LIBRARIES = 32;

/** A process of the tree that is dead but not yet waited for. */
export interface ZombieTask {
  readonly pid: number;
  readonly ppid: number;
}

/** A tree that stands still. */
export interface FrozenTree {
  /** Parents before their children. */
  readonly tasks: TracedTask[];
  readonly zombies: ZombieTask[];
}

export interface FreezeOptions {
  /** Limit for the whole tree to stand still, in milliseconds. */
  readonly timeoutMs: number;
  /** The process without its children. */
  readonly isAlone?: boolean;
  /** Threads that were no workers of the kernel's a moment ago. */
  readonly ordinary?: ReadonlySet<number> | undefined;
}

interface Seized {
  readonly tree: FrozenTree;
  readonly known: Map<number, TracedThread>;
  readonly waiting: TracedThread[];
  readonly ownPidNs: string;
  readonly deadline: number;
  readonly isAlone: boolean;
  readonly ordinary: Set<number>;
  readonly rootPid: number;
}

/** Freezes the tree below `rootPid`; on any failure everything is let go again and the reason thrown. */
export function freezeTree(rootPid: number, options: FreezeOptions): FrozenTree {
  const state: Seized = {
    tree: { tasks: [], zombies: [] },
    known: new Map(),
    waiting: [],
    ownPidNs: readlinkSync("/proc/self/ns/pid"),
    deadline: performance.now() + options.timeoutMs,
    isAlone: options.isAlone === true,
    ordinary: new Set(options.ordinary),
    rootPid,
  };
  try {
    seizeTask(state, rootPid, 0);
    settle(state);
  } catch (error) {
    releaseTree(state.tree, { only: state.known });
    throw error;
  }
  if (state.tree.tasks.length === 0) {
    throw new UsageError({
      code: "PROCESS_IS_DEAD",
      message: `Cannot dump process ${rootPid}: it is dead and waits for its parent to take notice`,
      remedy: ["Dump its parent instead, or a process that is alive"],
    });
  }
  return state.tree;
}

/** Seizes what is new and waits for it, until a whole pass over the tree finds nothing new. */
function settle(state: Seized): void {
  for (;;) {
    for (const thread of state.waiting.splice(0)) waitStopped(state, thread);
    let found = 0;
    for (const task of [...state.tree.tasks]) found += seizeThreads(state, task);
    // Only a thread that stands still makes no more children: to look earlier would be to look twice.
    if (found === 0 && !state.isAlone) found = seizeAllChildren(state);
    if (found > 0) continue;
    for (const task of state.tree.tasks) readIdentity(state, task);
    return;
  }
}

function seizeTask(state: Seized, pid: number, ppid: number): number {
  const stat = readStat(pid);
  if (stat === undefined) {
    if (ppid !== 0) return 0;
    throw new UsageError({
      code: "NO_SUCH_PROCESS",
      message: `Cannot dump process ${pid}: there is no process with this pid`,
      remedy: ["Look the pid up again (ps -e)"],
    });
  }
  if (stat.state === "Z" && stat.threads > 1) return seizeLeaderless(state, pid, stat.comm);
  if (stat.state === "Z" || stat.state === "X") {
    const known = state.tree.zombies.some((z) => z.pid === pid);
    if (!known) state.tree.zombies.push({ pid, ppid });
    return known ? 0 : 1;
  }
  if (pid === process.pid) throw dumpsItself(state, pid);
  const task = new TracedTask(pid, stat.comm);
  state.tree.tasks.push(task);
  return 1 + seizeThreads(state, task);
}

/** A process whose first thread has ended is held by one that lives. */
function seizeLeaderless(state: Seized, pid: number, comm: string): number {
  if (state.tree.tasks.some((task) => task.tgid === pid)) return 0;
  const living = threadIds(pid).find((tid) => !isDeadThread(pid, tid));
  if (living === undefined) return 1;
  const task = new TracedTask(living, comm, pid);
  state.tree.tasks.push(task);
  return 1 + seizeThreads(state, task);
}

function threadIds(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}

/** Floe below the root of the tree would freeze itself. */
function dumpsItself(state: Seized, pid: number): UsageError {
  const root = state.tree.tasks[0];
  return new UsageError({
    code: "DUMPS_ITSELF",
    message: `Cannot dump process ${root?.pid ?? pid}${root === undefined ? "" : ` (${root.comm})`}: Floe itself (process ${pid}) is part of its tree`,
    remedy: ["Start Floe from outside the tree, for example from another shell", "Dump a process below that one"],
  });
}

function seizeThreads(state: Seized, task: TracedTask): number {
  let tids: number[];
  try {
    // readdirSync sorts by text; the leader has the lowest number or has taken over the first one's (execve).
    tids = readdirSync(`/proc/${task.pid}/task`).map(Number);
  } catch {
    tids = [];
  }
  tids.sort((a, b) => Number(b === task.pid) - Number(a === task.pid) || a - b);
  let found = 0;
  for (const tid of tids) {
    if (state.known.has(tid)) continue;
    if (tid !== task.pid && !state.ordinary.has(tid) && isKernelWorker(task, tid)) continue;
    const thread = new TracedThread(task, tid);
    const error = seizeThread(thread);
    if (error === ESRCH || (error !== 0 && isDeadThread(task.pid, tid))) continue;
    if (error !== 0) throw cannotSeize(task, tid, error);
    task.threads.push(thread);
    state.known.set(tid, thread);
    state.waiting.push(thread);
    found++;
  }
  // It ended before any of its threads was held: its parent's list of children says what it is now.
  return task.threads.length === 0 ? drop(state, task) : found;
}

/** Takes a process that has ended out of the tree; something has changed, so the tree is looked at once more. */
function drop(state: Seized, task: TracedTask): number {
  if (task.tgid === state.rootPid) throw vanished(task);
  const at = state.tree.tasks.indexOf(task);
  if (at >= 0) state.tree.tasks.splice(at, 1);
  return 1;
}

/** Whether a ring is idle, so that its workers are, is looked at when all stands still. */
function isKernelWorker(task: TracedTask, tid: number): boolean {
  try {
    return (readProcStat(task.pid, tid).flags & PF_WORKER) !== 0;
  } catch {
    return false; // it ended
  }
}

function seizeThread(thread: TracedThread): number {
  const { tid } = thread;
  let error = ptraceSeize(tid, PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP);
  // Suspending seccomp needs CAP_SYS_ADMIN and a kernel built for it; a task without filters does not need it.
  thread.isSeccompSuspended = error === 0;
  if (error < 0) error = ptraceSeize(tid, PTRACE_O_TRACESYSGOOD);
  if (error === 0) error = ptraceInterrupt(tid);
  return -error;
}

/** From so many threads on it may be cheaper to look at all processes than at the children of each thread. */
const MANY_THREADS = 256;

function seizeAllChildren(state: Seized): number {
  const tasks = [...state.tree.tasks];
  const threads = tasks.reduce((sum, task) => sum + task.threads.length, 0);
  const processes = threads < MANY_THREADS ? [] : readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  if (threads < MANY_THREADS || processes.length > threads / 2) return tasks.reduce((sum, task) => sum + seizeChildren(state, task), 0);
  const parents = new Set(tasks.map((task) => task.tgid));
  let found = 0;
  for (const pid of processes.map(Number)) {
    if (state.known.has(pid) || parents.has(pid)) continue;
    const ppid = readStat(pid)?.ppid ?? 0;
    if (parents.has(ppid)) found += seizeTask(state, pid, ppid);
  }
  return found;
}

function seizeChildren(state: Seized, task: TracedTask): number {
  let found = 0;
  for (const { tid } of task.threads) {
    for (const pid of childrenOf(task.pid, tid)) {
      if (!state.known.has(pid)) found += seizeTask(state, pid, task.pid);
    }
  }
  return found;
}

function childrenOf(pid: number, tid: number): number[] {
  try {
    const text = readProc(`/proc/${pid}/task/${tid}/children`).toString("latin1").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    return [];
  }
}

const nap = new Int32Array(new SharedArrayBuffer(4));

/** So often the stop of a thread is looked for before we begin to sleep in between. */
const LONG = 200;

/** Waits for the stop that PTRACE_INTERRUPT asked for and reads what belongs to the thread alone. */
function waitStopped(state: Seized, thread: TracedThread): void {
  for (let polls = 0; ; polls++) {
    const status = waitThread(thread.tid, WNOHANG);
    if (status.kind === "none") {
      if (performance.now() > state.deadline) throw doesNotStop(thread);
      // The number of one that was no worker a moment ago may be a worker's by now, which never stops.
      if (polls === LONG && state.ordinary.has(thread.tid) && isKernelWorker(thread.task, thread.tid)) {
        state.ordinary.delete(thread.tid);
        forget(state, thread);
        return;
      }
      if (polls > LONG) Atomics.wait(nap, 0, 0, 0.2);
      continue;
    }
    if (status.kind === "exited" || status.kind === "killed") {
      forget(state, thread);
      return;
    }
    // A signal was on its way: let it take its course, the interrupt is still due.
    if (status.kind === "signal-stop") ptraceCont(thread.tid, status.signal);
    else if (status.kind === "event-stop") {
      thread.stopSignal = status.signal === SIGTRAP ? 0 : status.signal;
      break;
    } else ptraceCont(thread.tid);
  }
  if (!thread.isSeccompSuspended) refuseFilters(thread);
  thread.userDispatch = ptraceGetUserDispatch(thread.tid);
  thread.regs = Buffer.alloc(arch.regsBytes);
  ptraceGetRegs(thread.tid, thread.regs);
  goOnWaiting(thread);
  if (arch.inUserCode(thread.regs)) leaveRestartableSequence(thread);
  thread.sigmask = ptraceGetSigmask(thread.tid);
  thread.pending = ptracePeekSiginfo(thread.tid, false);
}

/** The kernel is told at once: it then decides so whatever becomes of us, and also where nothing is run in the thread. */
function goOnWaiting(thread: TracedThread): void {
  const undisturbed = arch.undisturbedRegs(thread.regs);
  if (undisturbed === undefined) return;
  ptraceSetRegs(thread.tid, undisturbed);
  thread.regs = undisturbed;
}

/** What we do inside a thread could kill it when its filters act. */
function refuseFilters({ task, tid }: TracedThread): void {
  if (readStatus(task.pid, tid).seccomp === 0) return;
  throw new Refusal({
    code: "SECCOMP_NOT_SUSPENDED",
    process: { pid: task.pid, comm: task.comm },
    resource: `the seccomp filters of thread ${tid}`,
    because: "they have to be kept from acting while it is dumped, for which Floe needs CAP_SYS_ADMIN and must be under no filter itself",
    remedy: ["Dump as root outside of any seccomp filter"],
  });
}

function forget(state: Seized, thread: TracedThread): void {
  state.known.delete(thread.tid);
  const { threads } = thread.task;
  threads.splice(threads.indexOf(thread), 1);
  if (threads.length === 0) drop(state, thread.task);
}

/** Pids as the task sees them itself, and a signal for the ends of programs that it neither catches nor has pending. */
function readIdentity(state: Seized, task: TracedTask): void {
  task.sharedPending = ptracePeekSiginfo(task.leader.tid, true);
  const status = readStatus(task.pid);
  task.status = status;
  let taken = status.sigCgt;
  for (const info of [...task.sharedPending, ...task.threads.flatMap((t) => t.pending)]) {
    taken |= 1n << BigInt(info.readInt32LE(0) - 1);
  }
  const harmless = harmlessSignal(taken, status.sigIgn);
  const unused = harmless === undefined ? unusedSignal(taken | task.threads.reduce((all, { sigmask }) => all | sigmask, 0n)) : undefined;
  task.trapSignal = harmless ?? unused ?? LAST_CHOICE;
  task.isTrapUnused = unused !== undefined;
  if (state.isAlone) task.hasOwnMemory = true;
  if (readlinkSync(`/proc/${task.pid}/ns/pid`) === state.ownPidNs) return;
  task.isInOurPidNamespace = false;
  task.nsPid = status.nsTgid.at(-1) ?? task.pid;
  for (const thread of task.threads) thread.nsTid = readStatus(task.pid, thread.tid).nsPid.at(-1) ?? thread.tid;
}

/** A signal that harms nobody should the task get it after our death: ignored by default, or else because the task says so. */
function harmlessSignal(taken: bigint, ignored: bigint): number | undefined {
  const isFree = (signal: number) => (taken & (1n << BigInt(signal - 1))) === 0n;
  const isIgnored = (signal: number) => (ignored & (1n << BigInt(signal - 1))) !== 0n && !STOP_SIGNALS.includes(signal);
  const all = Array.from({ length: LAST_SIGNAL }, (_, i) => i + 1);
  return TRAP_CANDIDATES.find(isFree) ?? all.find((signal) => isFree(signal) && isIgnored(signal));
}

/**
 * One that would end the task, so that nobody sends it, and that nobody waits for, as it would be blocked then: it can be ignored while we
 * hold the task. Those that C libraries keep for themselves come first (33, 32): these set their handlers when they need them.
 */
function unusedSignal(taken: bigint): number | undefined {
  const all = Array.from({ length: LAST_SIGNAL - FIRST_OF_LIBRARIES + 1 }, (_, i) => FIRST_OF_LIBRARIES + i);
  return [FIRST_OF_LIBRARIES + 1, ...all].find((signal) => (taken & (1n << BigInt(signal - 1))) === 0n);
}

function readStat(pid: number): { comm: string; state: string; ppid: number; threads: number } | undefined {
  try {
    const text = readProc(`/proc/${pid}/stat`).toString("latin1");
    const close = text.lastIndexOf(")");
    return {
      comm: text.slice(text.indexOf("(") + 1, close),
      state: text.charAt(close + 2),
      ppid: Number(text.slice(close + 2).split(" ")[1]),
      threads: Number(text.slice(close + 2).split(" ")[17]),
    };
  } catch {
    return undefined;
  }
}

function isDeadThread(pid: number, tid: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/task/${tid}/stat`, "latin1");
    const state = text.charAt(text.lastIndexOf(")") + 2);
    return state === "Z" || state === "X";
  } catch {
    return true;
  }
}

function vanished(task: TracedTask): Error {
  return new UsageError({
    code: "PROCESS_VANISHED",
    message: `Cannot dump process ${task.pid} (${task.comm}): it ended while it was being frozen`,
  });
}

function cannotSeize(task: TracedTask, tid: number, error: number): Error {
  const status = readFileSync(`/proc/${task.pid}/task/${tid}/status`, "latin1");
  const tracer = Number(/^TracerPid:\s*(\d+)/m.exec(status)?.[1] ?? 0);
  if (error === EPERM && tracer !== 0) {
    return new Refusal({
      code: "ALREADY_TRACED",
      process: { pid: task.pid, comm: task.comm },
      resource: `thread ${tid}`,
      because: `it is traced by process ${tracer} already, and Linux allows one tracer`,
      remedy: ["Detach the debugger or tracer, then dump again"],
    });
  }
  return kernelError(`ptrace(PTRACE_SEIZE, ${tid})`, error, `freezing process ${task.pid} (${task.comm})`);
}

function doesNotStop(thread: TracedThread): Error {
  return new Refusal({
    code: "DOES_NOT_STOP",
    process: { pid: thread.task.pid, comm: thread.task.comm },
    resource: `thread ${thread.tid}`,
    because: "it did not stop in time: it is in an uninterruptible wait, for example an unfinished vfork or a dead disk",
    remedy: ["Dump again when the wait is over", "Give it longer with --timeout SECONDS"],
  });
}

/** Lets go of every thread; registers and masks must be in place. Dead threads are passed over. */
export function releaseTree(tree: FrozenTree, options: { only?: ReadonlyMap<number, TracedThread> } = {}): void {
  const waiting: TracedThread[] = [];
  for (const task of tree.tasks) {
    for (const thread of task.threads) {
      if (options.only !== undefined && !options.only.has(thread.tid)) continue;
      if (thread.userDispatch !== undefined) ptraceSetUserDispatch(thread.tid, thread.userDispatch);
      // Not stopped yet (a failure while freezing): the interrupt is still due.
      if (ptraceDetach(thread.tid) !== 0) waiting.push(thread);
    }
  }
  for (const until = performance.now() + LAST_WAIT_MS; waiting.length > 0 && performance.now() < until; Atomics.wait(nap, 0, 0, 0.2)) {
    removeDetached(waiting);
  }
  if (waiting.length === 0) return;
  // In an uninterruptible wait, which may last. The kernel detaches from it when we end; until then it must not find us asleep.
  const timer = setInterval(() => {
    removeDetached(waiting);
    if (waiting.length === 0) clearInterval(timer);
  }, LAST_WAIT_MS);
  timer.unref();
}

/** How long a thread that is to be let go may take to stop first, in milliseconds. */
const LAST_WAIT_MS = 20;

/** Lets go of those that have stopped or died by now, and takes them off the list. */
function removeDetached(waiting: TracedThread[]): void {
  for (const thread of [...waiting]) {
    let status: WaitStatus;
    try {
      status = waitThread(thread.tid, WNOHANG);
    } catch {
      status = { kind: "exited", code: 0 }; // ECHILD: it is not ours any more, and the others must be let go
    }
    if (status.kind === "none") continue;
    if (status.kind !== "exited" && status.kind !== "killed") ptraceDetach(thread.tid, status.kind === "signal-stop" ? status.signal : 0);
    waiting.splice(waiting.indexOf(thread), 1);
  }
}
