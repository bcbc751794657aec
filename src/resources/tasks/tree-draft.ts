/**
 * A tree plan while it is written: every step is done in the model at once, so a later one can ask how things stand.
 */
import { Refusal, invariant } from "../../errors.js";
import { RoundTable, usesOf } from "./tree-rounds.js";
import { applyStep, emptyWorld } from "./tree-simulate.js";
import type { TreeModel, ModelTask } from "./tree-model.js";
import { type Inherited, OUTSIDE, type Round, type TemporaryKind, type TemporaryTask, type TreeStep, type TreeTask } from "./tree-steps.js";

/** Highest number for a temporary task that may have any: below the smallest pid_max that systems come with. */
const HIGHEST_FREE = 32_767;
/** Smaller numbers belong to the system's own processes (RESERVED_PIDS of kernel/pid.c). */
const LOWEST_FREE = 300;

export class Draft {
  readonly tasks: readonly TreeTask[];
  readonly byPid: ReadonlyMap<number, TreeTask>;
  readonly inherited: Inherited | undefined;
  readonly model: TreeModel;
  readonly temporary: TemporaryTask[] = [];
  readonly memoryFrom = new Map<number, number | undefined>();
  readonly #rounds = new RoundTable();
  readonly #signalled = new Set<number>();
  readonly #holds = new Map<number, number | undefined>();
  readonly #numbers = new Set<number>();
  readonly #isTaken: (pid: number) => boolean;
  #lastFree = HIGHEST_FREE + 1;

  constructor(tasks: readonly TreeTask[], inherited: Inherited | undefined, isTaken: (pid: number) => boolean) {
    this.tasks = tasks;
    this.byPid = new Map(tasks.map((task) => [task.pid, task]));
    this.inherited = inherited;
    this.model = emptyWorld(tasks, inherited);
    this.#isTaken = isTaken;
    for (const task of tasks) for (const id of [task.pid, task.sid, task.pgid, ...task.threads]) this.#numbers.add(id);
  }

  add(step: TreeStep): void {
    const uses = usesOf(this.model, step);
    if (step.do === "exit") this.#signalled.add(this.now(step.pid).ppid);
    applyStep(this.model, step, this.inherited);
    if (step.do === "create") this.#noteMemory(step.pid, step.by);
    if (step.do === "memory") this.#holds.set(step.pid, step.pid);
    this.#rounds.add(step, uses);
  }

  /** How things stand with a task. */
  now(pid: number): ModelTask {
    const task = this.model.tasks.get(pid);
    invariant(task !== undefined, `the plan uses process ${pid}, which is not there`);
    return task;
  }

  create(pid: number, by: number, asSibling = false): void {
    this.add({ do: "create", pid, by, asSibling });
    // What has no memory of its own to be filled (a zombie, a temporary task) passes on what it was cloned with.
    if (this.byPid.get(pid)?.state === "alive") this.add({ do: "memory", pid });
  }

  /** Makes a child of `by` that does not stay. */
  createTemporary(kind: TemporaryKind, by: number, pid = this.#freeNumber()): number {
    this.temporary.push({ pid, kind });
    this.create(pid, by);
    return pid;
  }

  /** Ends a task, and has its parent forget it. */
  endAndReap(pid: number): void {
    this.add({ do: "exit", pid });
    this.add({ do: "reap", pid, by: this.now(pid).ppid });
  }

  barrier(): void {
    this.#rounds.barrier();
  }

  takeRounds(): readonly Round[] {
    return this.#rounds.take();
  }

  /** Living tasks of the tree that got SIGCHLD so far. */
  signalled(): readonly number[] {
    return [...this.#signalled].filter((pid) => this.byPid.get(pid)?.state === "alive");
  }

  #noteMemory(pid: number, by: number): void {
    const from = by === OUTSIDE ? undefined : this.#holds.get(by);
    this.#holds.set(pid, from);
    if (this.byPid.has(pid)) this.memoryFrom.set(pid, from);
  }

  #freeNumber(): number {
    for (let pid = this.#lastFree - 1; pid >= LOWEST_FREE; pid -= 1) {
      if (this.#numbers.has(pid) || this.#isTaken(pid)) continue;
      this.#lastFree = pid;
      return pid;
    }
    const root = this.tasks[0];
    throw new Refusal(
      {
        code: "NO_FREE_PIDS",
        process: { pid: root?.pid ?? 0, comm: root?.comm ?? "?" },
        resource: "temporary processes that rebuild its sessions",
        because: `no process id from ${LOWEST_FREE} to ${HIGHEST_FREE} is free`,
        remedy: ["restore into a new pid namespace"],
      },
      "restore",
    );
  }
}
