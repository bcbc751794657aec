/**
 * Random lives of process trees, for tests: what forks, exits and the like leave behind is a tree that must be plannable.
 */
import { TreeModel, type ModelTask } from "./tree-model.js";
import type { TreeTask } from "./tree-steps.js";

export interface History {
  readonly tasks: readonly TreeTask[];
  readonly shellJob: boolean;
  /** The calls made, for messages. */
  readonly calls: readonly string[];
}

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A number below this is of a task outside the tree: a shell, and what is between it and the root. */
const OUTSIDE_SHELL = 100;
const OUTSIDE_JOB = 101;

type Kind = "fork" | "sibling" | "setsid" | "lead" | "join" | "subreaper" | "exit" | "reap";

class Life {
  readonly calls: string[] = [];
  readonly model: TreeModel;
  readonly root: number;
  readonly random: () => number;
  readonly #most: number;
  /** How often each kind of call is made; every life is different, so that some are all sessions, others all groups. */
  readonly #weights: ReadonlyMap<Kind, number>;

  constructor(random: () => number) {
    this.random = random;
    this.#most = 5 + Math.floor(random() * 80);
    this.#weights = new Map([
      ["fork", 10],
      ["sibling", 2 * random()],
      ["setsid", 8 * random()],
      ["lead", 5 * random()],
      ["join", 5 * random()],
      ["subreaper", 2 * random()],
      ["exit", 6 * random()],
      ["reap", 4 * random()],
    ]);
    const inNamespace = random() < 0.4;
    this.root = inNamespace ? 1 : 200;
    this.model = new TreeModel(inNamespace ? 1 : undefined);
    this.model.enter({ pid: OUTSIDE_SHELL, sid: OUTSIDE_SHELL, pgid: OUTSIDE_SHELL, leads: true });
    this.model.clone(OUTSIDE_SHELL, OUTSIDE_JOB);
    if (random() < 0.5) this.model.setpgid(OUTSIDE_JOB, OUTSIDE_JOB);
    this.model.clone(OUTSIDE_JOB, this.root);
    // Most roots lead a session from the start, as with setsid(1).
    if (random() < 0.6) this.do(`setsid ${this.root}`, () => this.model.setsid(this.root));
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.random() * from.length)];
  }

  inTree(): ModelTask[] {
    const root = this.model.tasks.get(this.root);
    const found = root === undefined ? [] : [root];
    for (const task of found) {
      for (const pid of task.children) {
        const child = this.model.tasks.get(pid);
        if (child !== undefined) found.push(child);
      }
    }
    return found;
  }

  freshPid(): number {
    for (let numbers = 90; ; numbers += 1) {
      // Few numbers, so that those of the dead come back.
      const pid = 300 + Math.floor(this.random() * numbers);
      if (!this.model.isTaken(pid)) return pid;
    }
  }

  /** A call that may be refused, which changes nothing then. */
  do(name: string, call: () => void): void {
    try {
      call();
      this.calls.push(name);
    } catch {
      // EPERM and the like are part of life.
    }
  }

  /** One call of a random kind by a random task of the tree. */
  step(): void {
    const tree = this.inTree();
    const task = this.pick(tree.filter((one) => !one.zombie));
    if (task === undefined) return;
    const kinds = [...this.#weights];
    let dice = this.random() * kinds.reduce((sum, [, weight]) => sum + weight, 0);
    const kind =
      kinds.find(([, weight]) => {
        dice -= weight;
        return dice < 0;
      })?.[0] ?? "fork";
    if (kind !== "fork" || tree.length < this.#most) this.call(kind, task, tree);
  }

  call(kind: Kind, task: ModelTask, tree: readonly ModelTask[]): void {
    const { model } = this;
    const { pid } = task;
    const isRoot = pid === this.root;
    if (kind === "fork" || (kind === "sibling" && !isRoot)) {
      const made = this.freshPid();
      this.do(`fork ${pid} -> ${kind} ${made}`, () => model.clone(pid, made, kind === "sibling"));
    }
    if (kind === "setsid") this.do(`setsid ${pid}`, () => model.setsid(pid));
    if (kind === "lead") this.do(`setpgid ${pid} ${pid}`, () => model.setpgid(pid, pid));
    if (kind === "join") {
      const pgid = this.pick(tree.filter((one) => one.sid === task.sid))?.pgid ?? pid;
      this.do(`setpgid ${pid} ${pgid}`, () => model.setpgid(pid, pgid));
    }
    if (kind === "subreaper") this.do(`subreaper ${pid}`, () => model.setSubreaper(pid, !task.subreaper));
    if (kind === "exit" && !isRoot) this.do(`exit ${pid}`, () => model.exit(pid));
    if (kind === "reap") {
      const zombie = this.pick(tree.filter((one) => one.zombie));
      if (zombie !== undefined) this.do(`reap ${zombie.pid}`, () => model.reap(zombie.pid, zombie.ppid));
    }
  }
}

/** Lives for `steps` calls, then looks at what is there. */
export function randomHistory(random: () => number, steps: number): History {
  const life = new Life(random);
  for (let i = 0; i < steps; i += 1) life.step();
  const found = life.inTree();
  const tasks = found.map((task): TreeTask => {
    const { pid, ppid, pgid, sid } = task;
    const isRoot = pid === life.root;
    const isLeaf = [...task.children].every((child) => life.model.tasks.get(child)?.zombie === true);
    const state = task.zombie ? "zombie" : !isRoot && isLeaf && random() < 0.1 ? "helper" : "alive";
    return { pid, ppid: isRoot ? 0 : ppid, pgid, sid, state, threads: [pid] };
  });
  const root = found[0];
  return { tasks, shellJob: root?.sid !== root?.pid, calls: life.calls };
}
