/**
 * The end of a restore: the parts that come in stages, then the state in which every thread goes on.
 */
import { addDumpable, type Filled } from "../resources/memory/finish.js";
import type { Stage, ThreadRestore } from "../resources/part.js";
import { threadParts } from "../resources/registry.js";
import { fpregsFromImage, gpregsFromImage } from "../resources/tasks/core-x86.js";
import { endLeader, hasEnded } from "../resources/tasks/dead-leader.js";
import { goOnInCall, startCallAgain } from "../resources/tasks/restart-block.js";
import { savedDispatch } from "../resources/tasks/user-dispatch.js";
import type { CoreEntry } from "../resources/tasks/core.schema.js";
import { Program } from "../target/program.js";
import { setFinalState, stopProcess, unmapStub } from "../target/release.js";
import { runAll } from "../target/run.js";
import type { TracedThread } from "../target/thread.js";
import { xstateLayout } from "../target/x86_64/xstate.js";
import { TASK_STATE } from "./collect.js";
import { faultPoint } from "./fault.js";
import type { Session, TaskInMaking } from "./restore-session.js";
import { forgetChildSignal } from "./restore-tree.js";
import { restoreThreads } from "./thread-programs.js";

const SIGSTOP = 19;
/** SIGTSTP, SIGTTIN, SIGTTOU: stop a process only by their default action. */
const JOB_SIGNALS = [20, 21, 22];
const SIG_DFL = 0n;

/** All parts of one stage, in all threads of `tasks` at once. */
export function runStage(stage: Stage, tasks: readonly TaskInMaking[], session: Session): void {
  const parts = threadParts.filter((p) => p.stage === stage);
  const contexts: Omit<ThreadRestore, "program">[] = [];
  for (const task of tasks) {
    const threads = stage === "process" ? task.threads.slice(0, 1) : task.threads;
    threads.forEach(({ tid, core }, i) => {
      const thread = task.traced.threads[i];
      if (thread === undefined) throw new Error(`internal error: thread ${tid} has not been made`);
      contexts.push({ session, task, thread, isLeader: i === 0, tid, core });
    });
  }
  restoreThreads(parts, contexts);
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
  runStage("last", tasks, session);
  const ours = filled.filter((f) => tasks.some((t) => t.traced === f.task));
  runAll(
    ours.map(({ task, space }) => {
      const program = new Program();
      addDumpable(program, space);
      return { thread: task.leader, program };
    }),
  );
  faultPoint("restore-last");
  for (const task of tasks) if (hasEnded(task.core)) endLeader(task.traced, task.core);
  const goingOn = putIntoCalls(tasks, session.lazy !== undefined);
  for (const one of ours) leaveMemory(one, filled);
  for (const task of tasks) {
    const living = hasEnded(task.core) ? task.threads.slice(1) : task.threads;
    living.forEach(({ core }, i) => {
      const thread = task.traced.threads[i];
      if (thread === undefined) throw new Error("internal error: a thread is missing");
      const layout = xstateLayout(thread.tid);
      const { gpregs, fpregs } = core.thread_info as NonNullable<CoreEntry["thread_info"]>;
      setFinalState(thread, {
        regs: goingOn.get(thread) ?? gpregsFromImage(gpregs),
        xstate: fpregsFromImage(fpregs, layout),
        sigmask: maskOf(core),
        userDispatch: savedDispatch(core),
      });
    });
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

/** Takes the stub away when nobody who shares the memory needs it any more. */
function leaveMemory({ task, owner }: Filled, filled: readonly Filled[]): void {
  const memory = owner ?? task;
  const users = filled.filter((f) => (f.owner ?? f.task) === memory);
  task.needsStub = false;
  if (users.some((f) => f.task.needsStub)) return;
  unmapStub(task);
  for (const user of users) user.task.region = undefined;
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
