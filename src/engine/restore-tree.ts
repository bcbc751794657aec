/**
 * Carries out a tree plan: makes the tasks, sessions and groups of a saved tree, step by step, from the seed.
 */
import { checked } from "../linux/errno.js";
import { syscallNumber } from "../linux/ffi/native.unsafe.js";
import { SYS } from "../linux/syscalls.js";
import { SIGCHLD } from "../resources/tasks/exit-signal.js";
import { OUTSIDE, type Round, type TreePlan, type TreeStep, actorOf } from "../resources/tasks/tree-steps.js";
import { CreationError, createTasks } from "../target/create.js";
import { endTask } from "../target/exit.js";
import { Program } from "../target/program.js";
import { run } from "../target/run.js";
import { waitDeath } from "../target/seed.js";
import type { TracedTask } from "../target/thread.js";

const PR_SET_NAME = 15;
const PR_SET_CHILD_SUBREAPER = 36;
const WALL = 0x40000000;

/** What carrying out a plan needs to know, and what it fills in. */
export interface TreeBuild {
  readonly plan: TreePlan;
  readonly seed: TracedTask;
  /** Living tasks by their saved pid; temporary ones come and go. */
  readonly living: Map<number, TracedTask>;
  /** The root becomes a child of the seed instead of ours. */
  readonly rootBelowSeed: boolean;
  /** Name of a saved task, for messages. */
  comm(pid: number): string;
  /** The first slot that is its own of the region that it shares with others. */
  firstSlot(pid: number): number;
  /** The signal by which its parent is told of its end. */
  exitSignal(pid: number): number;
  /** Wait status with which a dead task of the tree ended. */
  exitStatus(pid: number): number;
  /** Called right after a task has become the leader of a new session, before it has children there. */
  afterSetsid(task: TracedTask, pid: number): void;
  /** Fills the memory of tasks; runs when the plan says so. */
  fillMemory(tasks: readonly { readonly task: TracedTask; readonly pid: number }[]): void;
}

/** Carries out rounds of the plan, in order. On failure everything in `living` must be killed by the caller. */
export function carryOut(build: TreeBuild, rounds: readonly Round[]): void {
  for (const round of rounds) {
    const actors = byActor(round);
    fillFirst(build, [...actors.values()]);
    for (const [actor, steps] of actors) carryOutFor(build, actor, steps);
  }
}

/** What different tasks do in one round is independent: the memory of all that begin with it is filled at once. */
function fillFirst(build: TreeBuild, actors: readonly TreeStep[][]): void {
  const filling = actors.filter(([first]) => first?.do === "memory").map((steps) => steps.shift() as TreeStep & { do: "memory" });
  if (filling.length > 0) build.fillMemory(filling.map(({ pid }) => ({ task: task(build, pid), pid })));
}

function byActor(round: Round): Map<number, TreeStep[]> {
  const groups = new Map<number, TreeStep[]>();
  for (const step of round) {
    const actor = actorOf(step);
    const group = groups.get(actor);
    if (group === undefined) groups.set(actor, [step]);
    else group.push(step);
  }
  return groups;
}

function carryOutFor(build: TreeBuild, actor: number, steps: readonly TreeStep[]): void {
  for (let i = 0; i < steps.length; ) {
    const step = steps[i] as TreeStep;
    if (step.do !== "create") {
      single(build, step);
      i++;
      continue;
    }
    const batch: (TreeStep & { do: "create" })[] = [];
    for (; i < steps.length; i++) {
      const next = steps[i] as TreeStep;
      if (next.do !== "create") break;
      batch.push(next);
    }
    create(build, actor, batch);
  }
}

function create(build: TreeBuild, actor: number, batch: readonly (TreeStep & { do: "create" })[]): void {
  const creator = actor === OUTSIDE ? build.seed : task(build, actor);
  const wanted = batch.map((step) => ({
    pid: step.pid,
    comm: build.comm(step.pid),
    // From the seed: a child of the coordinator, who is the seed's parent.
    asSibling: step.asSibling || (actor === OUTSIDE && !build.rootBelowSeed),
    exitSignal: actor === OUTSIDE ? SIGCHLD : build.exitSignal(step.pid),
    shares: build.plan.shares.get(step.pid) ?? 0n,
    firstSlot: build.firstSlot(step.pid),
  }));
  try {
    for (const made of createTasks(creator, wanted)) build.living.set(made.nsPid, made);
  } catch (error) {
    if (error instanceof CreationError) {
      for (const made of error.made) build.living.set(made.nsPid, made);
      throw error.cause;
    }
    throw error;
  }
}

function task(build: TreeBuild, pid: number): TracedTask {
  const found = build.living.get(pid);
  if (found === undefined) throw new Error(`internal error: the plan uses process ${pid}, which is not there`);
  return found;
}

function single(build: TreeBuild, step: Exclude<TreeStep, { do: "create" }>): void {
  switch (step.do) {
    case "memory":
      build.fillMemory([{ task: task(build, step.pid), pid: step.pid }]);
      return;
    case "setsid":
      callIn(task(build, step.pid), SYS.setsid, [], `making process ${step.pid} a session leader`);
      build.afterSetsid(task(build, step.pid), step.pid);
      return;
    case "unshare":
      callIn(task(build, step.pid), SYS.unshare, [Number(step.what)], `giving process ${step.pid} its own`);
      return;
    case "setpgid":
      callIn(task(build, step.pid), SYS.setpgid, [0, groupNumber(build, step.pgid)], `putting process ${step.pid} into group ${step.pgid}`);
      return;
    case "subreaper":
      callIn(task(build, step.pid), SYS.prctl, [PR_SET_CHILD_SUBREAPER, step.on ? 1 : 0, 0, 0, 0], "setting the subreaper flag");
      return;
    case "exit":
      setName(task(build, step.pid), build.comm(step.pid));
      endTask(task(build, step.pid), build.exitStatus(step.pid));
      build.living.delete(step.pid);
      return;
    case "reap":
      reap(build, step);
      return;
  }
}

/** The saved group that stands for the coordinator's own is that group here. */
function groupNumber(build: TreeBuild, pgid: number): number {
  if (pgid !== build.plan.inherited?.pgid) return pgid;
  return checked(syscallNumber(SYS.getpgid, 0), () => "getpgid(0)");
}

function callIn(target: TracedTask, nr: number, args: readonly number[], doing: string): void {
  const program = new Program();
  program.call(nr, ...args).must(doing);
  run(target.leader, program);
}

/** A zombie keeps its name. */
function setName(target: TracedTask, comm: string): void {
  const program = new Program();
  program.call(SYS.prctl, PR_SET_NAME, program.cstring(comm), 0, 0, 0);
  run(target.leader, program);
}

function reap(build: TreeBuild, step: { readonly pid: number; readonly by: number }): void {
  if (step.by === OUTSIDE) {
    waitDeath(step.pid);
    return;
  }
  callIn(task(build, step.by), SYS.wait4, [step.pid, 0, WALL, 0], `waiting for temporary process ${step.pid}`);
}

/** Takes the SIGCHLD off the queues of tasks that got one only because the tree was being made. */
export function forgetChildSignals(build: TreeBuild, signals: readonly number[]): void {
  for (const pid of build.plan.signalled) {
    const target = build.living.get(pid);
    if (target !== undefined) for (const signal of signals) forgetChildSignal(target, signal);
  }
}

/** Takes pending signals of children off the queue of a task; everything is blocked there, so they are still pending. */
export function forgetChildSignal(target: TracedTask, signal = SIGCHLD): void {
  if (signal === 0) return;
  const program = new Program();
  const set = Buffer.alloc(8);
  set.writeBigUInt64LE(1n << BigInt(signal - 1), 0);
  program.call(SYS.rt_sigtimedwait, program.bytes(set), 0, program.bytes(Buffer.alloc(16)), 8);
  run(target.leader, program);
}
