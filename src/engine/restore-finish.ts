/**
 * The end of a restore: the parts that come in stages, then the state in which every thread goes on.
 */
import { addDumpable, type Filled } from "../resources/memory/finish.js";
import type { Stage } from "../resources/part.js";
import { threadParts } from "../resources/registry.js";
import type { UserX86FpregsEntry } from "../resources/tasks/core-x86.schema.js";
import { fpregsFromImage, gpregsFromImage } from "../resources/tasks/core-x86.js";
import { endLeader, hasEnded } from "../resources/tasks/dead-leader.js";
import { goOnInCall, startCallAgain } from "../resources/tasks/restart-block.js";
import { savedDispatch } from "../resources/tasks/user-dispatch.js";
import type { CoreEntry } from "../resources/tasks/core.schema.js";
import { Program } from "../target/program.js";
import { setFinalState, stopProcess, unmapStubs } from "../target/release.js";
import { runAll } from "../target/run.js";
import type { TracedTask, TracedThread } from "../target/thread.js";
import { type XstateLayout, xstateLayout } from "../target/x86_64/xstate.js";
import { TASK_STATE } from "./collect.js";
import { faultPoint } from "./fault.js";
import type { Session, TaskInMaking } from "./restore-session.js";
import { forgetChildSignal } from "./restore-tree.js";
import { type AskedToRestore, restoreThreads } from "./thread-programs.js";

const SIGSTOP = 19;
/** SIGTSTP, SIGTTIN, SIGTTOU: stop a process only by their default action. */
const JOB_SIGNALS = [20, 21, 22];
const SIG_DFL = 0n;

/** Parts that restore something, by the stage in which they do. */
const stages = (...which: readonly Stage[]) =>
  which.flatMap((stage) => threadParts.filter((p) => p.stage === stage && p.restore !== undefined));

/**
 * All parts of one stage, in all threads of `tasks` at once; `lastCalls` adds some to each program. Where a process has one thread only, what
 * is to be done when all threads exist is done with what is done for the process.
 */
export function runStage(
  stage: Stage,
  tasks: readonly TaskInMaking[],
  { session, lastCalls }: { session: Session; lastCalls?: (program: Program, thread: TracedThread) => void },
): void {
  const parts = stages(stage);
  const both = stage === "process" ? stages("process", "thread") : parts;
  const asked: AskedToRestore[] = [];
  for (const task of tasks) {
    const isAlone = task.threads.length === 1;
    if (isAlone && stage === "thread") continue;
    const threads = stage === "process" ? task.threads.slice(0, 1) : task.threads;
    threads.forEach(({ tid, core }, i) => {
      const thread = task.traced.threads[i];
      if (thread === undefined) throw new Error(`internal error: thread ${tid} has not been made`);
      asked.push({ parts: isAlone ? both : parts, context: { session, task, thread, isLeader: i === 0, tid, core } });
    });
  }
  restoreThreads(asked, lastCalls);
}

/** Everything that comes last; afterwards every thread is as it was and need only be let go. */
export function finishTasks(filled: readonly Filled[], session: Session): void {
  // Stopping sends the parent a signal that it has had already. So who is stopped is finished first, the children before
  // their parents, and the signal is taken away from a parent that still has everything blocked.
  const stopped = session.tasks.filter(isStopped).sort((a, b) => depth(b, session) - depth(a, session));
  for (const task of stopped) {
    finish([task], filled, session);
    stopProcess(task.traced, stopSignal(task, session));
    const parent = session.task(task.saved.tree.ppid);
    if (parent !== undefined) forgetChildSignal(parent.traced);
  }
  finish(
    session.tasks.filter((task) => !stopped.includes(task)),
    filled,
    session,
  );
  if (session.options.leaveStopped) for (const task of session.tasks) if (!stopped.includes(task)) stopProcess(task.traced, SIGSTOP);
  faultPoint("restore-ready");
}

function isStopped(task: TaskInMaking): boolean {
  return task.saved.state === TASK_STATE.STOPPED;
}

function depth(task: TaskInMaking, session: Session): number {
  let steps = 0;
  for (let up = session.task(task.saved.tree.ppid); up !== undefined; up = session.task(up.saved.tree.ppid)) steps++;
  return steps;
}

function finish(tasks: readonly TaskInMaking[], filled: readonly Filled[], session: Session): void {
  const finishing = new Set(tasks.map((t) => t.traced));
  const ours = filled.filter((f) => finishing.has(f.task));
  const isAlone = new Set(ours.filter(({ task }) => task.threads.length === 1).map(({ task }) => task));
  // After credentials, of all threads.
  const spaces = new Map(ours.map((f) => [f.task, f.space]));
  const dumpable = (program: Program, { task }: TracedThread) => {
    const space = spaces.get(task);
    if (space !== undefined && isAlone.has(task)) addDumpable(program, space);
  };
  runStage("last", tasks, { session, lastCalls: dumpable });
  runAll(
    ours.flatMap(({ task, space }) => {
      if (isAlone.has(task)) return [];
      const program = new Program();
      addDumpable(program, space);
      return [{ thread: task.leader, program }];
    }),
  );
  faultPoint("restore-last");
  for (const task of tasks) if (hasEnded(task.core)) endLeader(task.traced, task.core);
  const goingOn = putIntoCalls(tasks, session.lazy !== undefined);
  leaveMemory(ours, filled);
  const vectors = new VectorStates();
  for (const task of tasks) {
    const living = hasEnded(task.core) ? task.threads.slice(1) : task.threads;
    living.forEach(({ core }, i) => {
      const thread = task.traced.threads[i];
      if (thread === undefined) throw new Error("internal error: a thread is missing");
      const layout = xstateLayout(thread.tid);
      const { gpregs, fpregs } = core.thread_info as NonNullable<CoreEntry["thread_info"]>;
      setFinalState(thread, {
        regs: goingOn.get(thread) ?? gpregsFromImage(gpregs),
        xstate: vectors.of(fpregs, layout),
        sigmask: maskOf(core),
        userDispatch: savedDispatch(core),
      });
    });
  }
}

/** Vector registers as ptrace takes them. Those of neighbours are often one message of the images (Alike of codec/decode.ts). */
class VectorStates {
  #last: { readonly entry: UserX86FpregsEntry; readonly area: Buffer } | undefined;

  of(entry: UserX86FpregsEntry, layout: XstateLayout): Buffer {
    if (this.#last?.entry !== entry) this.#last = { entry, area: fpregsFromImage(entry, layout) };
    return this.#last.area;
  }
}

/** Registers of threads that are put into the timed calls in which they were frozen. Without their memory these begin again. */
function putIntoCalls(tasks: readonly TaskInMaking[], isLazy: boolean): Map<TracedThread, Buffer> {
  const found = new Map<TracedThread, Buffer>();
  for (const task of tasks) {
    const living = hasEnded(task.core) ? task.threads.slice(1) : task.threads;
    living.forEach(({ core }, i) => {
      const thread = task.traced.threads[i];
      if (thread === undefined || core.thread_core?.restart === undefined || core.thread_info === undefined) return;
      const regs = gpregsFromImage(core.thread_info.gpregs);
      found.set(thread, isLazy ? startCallAgain(core, regs) : goOnInCall(thread, core, regs));
    });
  }
  return found;
}

/** Takes the stub away where nobody who shares the memory needs it any more. */
function leaveMemory(leaving: readonly Filled[], filled: readonly Filled[]): void {
  const users = new Map<TracedTask, TracedTask[]>();
  for (const { task, owner } of filled) {
    const memory = owner ?? task;
    const known = users.get(memory);
    if (known === undefined) users.set(memory, [task]);
    else known.push(task);
  }
  for (const { task } of leaving) task.needsStub = false;
  const left = new Map<TracedTask, TracedTask>();
  for (const { task, owner } of leaving) {
    const memory = owner ?? task;
    if (users.get(memory)?.every(({ needsStub }) => !needsStub) === true) left.set(memory, task);
  }
  unmapStubs([...left.values()]);
  for (const memory of left.keys()) for (const user of users.get(memory) ?? []) user.region = undefined;
}

/** Blocked signals: the leader's are in the message about the process. */
function maskOf(core: CoreEntry): bigint {
  return core.tc?.blk_sigset ?? core.thread_core?.blk_sigset ?? 0n;
}

/** The signal that stopped a process, so that its parent's wait says the same; SIGSTOP where that one would not stop it now. */
function stopSignal(task: TaskInMaking, session: Session): number {
  const signal = task.core.tc?.stop_signo ?? SIGSTOP;
  if (!JOB_SIGNALS.includes(signal)) return SIGSTOP;
  // Images leave the actions of SIGKILL and SIGSTOP out, which come before these.
  const action = task.core.tc?.sigactions[signal - 1 - 2];
  const isBlocked = (maskOf(task.core) >> BigInt(signal - 1)) & 1n;
  return action?.sigaction === SIG_DFL && !isBlocked && !isOrphaned(task, session) ? signal : SIGSTOP;
}

/** A group is orphaned when no member's parent is in another group of the same session: the kernel then ignores job signals. */
function isOrphaned(task: TaskInMaking, session: Session): boolean {
  const { pgid, sid } = task.saved.tree;
  return !session.tasks.some((member) => {
    const parent = session.task(member.saved.tree.ppid)?.saved.tree;
    return member.saved.tree.pgid === pgid && parent !== undefined && parent.pgid !== pgid && parent.sid === sid;
  });
}
