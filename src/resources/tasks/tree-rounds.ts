/**
 * Turns steps in a correct order into rounds: each step as early as those allow that it depends on.
 *
 * Two steps depend on each other when both touch the same thing and one of them changes it. Things are: the life of a
 * task, its parent, its subreaper flag, and the being of the group with its number. That a task other than a group's
 * leader leaves the group is no change of it: a leader stays until all have joined, see tree-groups.ts.
 */
import type { TreeModel } from "./tree-model.js";
import { OUTSIDE, type Round, type TreeStep, actorOf } from "./tree-steps.js";

const THINGS = { life: 0, parent: 1, subreaper: 2, group: 3 } as const;
type Thing = keyof typeof THINGS;

/** A thing of a task as one number. */
function key(thing: Thing, pid: number): number {
  return pid * 4 + THINGS[thing];
}

interface Uses {
  readonly reads: number[];
  readonly writes: number[];
}

/** What a step depends on and changes when it is done in the given state of the model. */
export function usesOf(model: TreeModel, step: TreeStep): Uses {
  const reads: number[] = [];
  const writes: number[] = [];
  if (step.do === "create") {
    writes.push(key("life", step.pid), key("parent", step.pid));
    if (step.by !== OUTSIDE) reads.push(key("life", step.by));
    const creator = model.tasks.get(step.by);
    if (step.asSibling && creator !== undefined) reads.push(key("parent", step.by), key("life", creator.ppid));
    return { reads, writes };
  }
  if (step.do === "reap") {
    reads.push(key("life", step.by), key("parent", step.pid));
    writes.push(key("life", step.pid));
    return { reads, writes };
  }
  const life = key("life", step.pid);
  (step.do === "exit" ? writes : reads).push(life);
  const own = key("group", step.pid);
  if (step.do === "setsid") writes.push(own);
  if (step.do === "subreaper") writes.push(key("subreaper", step.pid));
  if (step.do === "setpgid") {
    if (step.pgid !== step.pid) reads.push(key("group", step.pgid));
    if (step.pgid === step.pid || model.tasks.get(step.pid)?.pgid === step.pid) writes.push(own);
  }
  if (step.do === "exit") addAdoption(model, step.pid, { reads, writes });
  return { reads, writes };
}

/** The death of a task with children depends on all ancestors up to the one who gets them. */
function addAdoption(model: TreeModel, pid: number, uses: Uses): void {
  const dead = model.tasks.get(pid);
  if (dead === undefined || dead.children.size === 0) return;
  for (const child of dead.children) uses.writes.push(key("parent", child));
  const reaper = model.reaperOf(pid);
  let up = dead;
  for (;;) {
    uses.reads.push(key("parent", up.pid));
    const next = model.tasks.get(up.ppid);
    if (next === undefined) return;
    up = next;
    uses.reads.push(key("subreaper", up.pid), key("life", up.pid));
    if (up.pid === reaper) return;
  }
}

interface Mark {
  readonly round: number;
  readonly actor: number;
}

/** Collects steps; those of one actor keep their order, also within a round. */
export class RoundTable {
  readonly rounds: TreeStep[][] = [];
  #floor = 0;
  readonly #lastOf = new Map<number, number>();
  readonly #written = new Map<number, Mark>();
  readonly #read = new Map<number, Mark[]>();

  add(step: TreeStep, uses: Uses): void {
    const actor = actorOf(step);
    let round = Math.max(this.#floor, this.#lastOf.get(actor) ?? 0);
    const after = (mark: Mark | undefined): void => {
      if (mark !== undefined) round = Math.max(round, mark.actor === actor ? mark.round : mark.round + 1);
    };
    for (const thing of uses.reads) after(this.#written.get(thing));
    for (const thing of uses.writes) {
      after(this.#written.get(thing));
      for (const mark of this.#read.get(thing) ?? []) after(mark);
    }
    this.#note({ round, actor }, uses);
    this.#lastOf.set(actor, round);
    while (this.rounds.length <= round) this.rounds.push([]);
    this.rounds[round]?.push(step);
  }

  /** Whatever is added from here on comes after everything added before. */
  barrier(): void {
    this.#floor = this.rounds.length;
  }

  /** Takes out the rounds so far. */
  take(): readonly Round[] {
    const taken = this.rounds.splice(0);
    this.#floor = 0;
    for (const map of [this.#lastOf, this.#written, this.#read]) map.clear();
    return taken;
  }

  #note(mark: Mark, uses: Uses): void {
    for (const thing of uses.writes) {
      this.#written.set(thing, mark);
      this.#read.delete(thing);
    }
    for (const thing of uses.reads) {
      const marks = this.#read.get(thing);
      if (marks === undefined) this.#read.set(thing, [mark]);
      else if (marks.at(-1)?.round !== mark.round || marks.at(-1)?.actor !== mark.actor) marks.push(mark);
    }
  }
}
