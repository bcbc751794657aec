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

class Life {
  readonly calls: string[] = [];
  readonly model: TreeModel;
  readonly root: number;
  readonly random: () => number;

  constructor(random: () => number) {
    this.random = random;
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
    for (;;) {
      // Few numbers, so that those of the dead come back.
      const pid = 300 + Math.floor(this.random() * 90);
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

  step(): void {
    const { model } = this;
    const tree = this.inTree();
    const living = tree.filter((task) => !task.zombie);
    const task = this.pick(living);
    if (task === undefined) return;
    const { pid } = task;
    const dice = this.random();
    if (dice < 0.42 && tree.length < 40) {
      const child = this.freshPid();
      this.do(`fork ${pid} -> ${child}`, () => model.clone(pid, child));
    } else if (dice < 0.46 && pid !== this.root) {
      const sibling = this.freshPid();
      this.do(`fork ${pid} -> sibling ${sibling}`, () => model.clone(pid, sibling, true));
    } else if (dice < 0.6) {
      this.do(`setsid ${pid}`, () => model.setsid(pid));
    } else if (dice < 0.66) {
      this.do(`setpgid ${pid} ${pid}`, () => model.setpgid(pid, pid));
    } else if (dice < 0.75) {
      const pgid = this.pick(tree)?.pgid ?? pid;
      this.do(`setpgid ${pid} ${pgid}`, () => model.setpgid(pid, pgid));
    } else if (dice < 0.8) {
      this.do(`subreaper ${pid}`, () => model.setSubreaper(pid, !task.subreaper));
    } else if (dice < 0.93) {
      if (pid !== this.root) this.do(`exit ${pid}`, () => model.exit(pid));
    } else {
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
