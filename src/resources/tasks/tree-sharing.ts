/**
 * Tasks that share a descriptor table, an fs struct, memory or signal handlers: which clone flags make them do so.
 *
 * An object passes on only from creator to created. So every task between two sharers has it for a while, and unshare(2)
 * ends that; a task that could not have it any more is created by another sharer, as its sibling. Memory and handlers cannot
 * be given up again, so for these only the second way is open.
 */
import { Refusal } from "../../errors.js";
import { CLONE } from "../../target/create.js";
import type { KernelIds } from "./kernel-ids.js";
import { ModelError } from "./tree-model.js";
import { applyStep, differences, emptyWorld, simulate } from "./tree-simulate.js";
import { type Inherited, OUTSIDE, type Round, type TreeStep, type TreeTask, actorOf } from "./tree-steps.js";

type Create = TreeStep & { readonly do: "create" };
type Kind = keyof KernelIds;

const PASSED_ON = ["files", "fs"] as const;
const KEPT = ["vm", "sighand"] as const;
const FLAG = { vm: CLONE.VM, files: CLONE.FILES, fs: CLONE.FS, sighand: CLONE.SIGHAND } as const;
const NAMES = { vm: "address space", files: "descriptor table", fs: "fs struct", sighand: "signal handlers" } as const;

/** What each task shares; temporary and dead ones have nothing that has to be right. */
export type SharedObjects = ReadonlyMap<number, KernelIds>;

export interface Sharing {
  readonly build: readonly Round[];
  /** Clone flags for what a new task shares with its creator, by its pid. */
  readonly flags: ReadonlyMap<number, bigint>;
  /** Whose memory a task holds when it is created; undefined: as it was before. */
  readonly memoryFrom: ReadonlyMap<number, number | undefined> | undefined;
}

interface Tree {
  readonly tasks: readonly TreeTask[];
  readonly inherited: Inherited | undefined;
  readonly objects: SharedObjects;
}

/** A creation whose task cannot get an object from its creator. */
interface Stuck {
  readonly at: number;
  readonly kind: Kind;
  /** Number of the object. */
  readonly object: number;
}

/** Adds to a finished plan what makes objects shared. Throws a Refusal when no order of creations does it. */
export function planSharing(build: readonly Round[], tree: Tree, verb: "dump" | "restore"): Sharing {
  if (!isAnythingShared(tree.objects)) return { build, flags: new Map(), memoryFrom: undefined };
  let steps = build.flatMap(inOrder);
  let isChanged = false;
  for (;;) {
    const { flags, unshares, stuck } = assign(steps, tree.objects);
    if (stuck === undefined) {
      const isAsBefore = !isChanged && unshares.size === 0;
      return isAsBefore
        ? { build, flags, memoryFrom: undefined }
        : { build: withUnshares(steps, unshares), flags, memoryFrom: memoryLenders(steps, tree) };
    }
    steps = bornBesideSharer(steps, stuck, tree) ?? refuse(steps[stuck.at] as Create, stuck, tree, verb);
    isChanged = true;
  }
}

function isAnythingShared(objects: SharedObjects): boolean {
  return [...PASSED_ON, ...KEPT].some((kind) => new Set([...objects.values()].map((o) => o[kind])).size < objects.size);
}

/** The steps of a round as they are carried out. */
function inOrder(round: Round): TreeStep[] {
  const byActor = new Map<number, TreeStep[]>();
  for (const step of round) byActor.set(actorOf(step), [...(byActor.get(actorOf(step)) ?? []), step]);
  return [...byActor.values()].flat();
}

interface Assignment {
  readonly flags: Map<number, bigint>;
  /** Steps to be put in before the step of a position. */
  readonly unshares: Map<number, TreeStep[]>;
  readonly stuck: Stuck | undefined;
}

function assign(steps: readonly TreeStep[], objects: SharedObjects): Assignment {
  const flags = new Map<number, bigint>();
  const unshares = new Map<number, TreeStep[]>();
  let stuck: Stuck | undefined;
  for (const kind of PASSED_ON) stuck ??= new Passing(steps, kind, objects).run(flags, unshares);
  for (const kind of KEPT) stuck ??= keep(steps, kind, { objects, flags });
  return { flags, unshares, stuck };
}

function addFlag(flags: Map<number, bigint>, pid: number, kind: Kind): void {
  flags.set(pid, (flags.get(pid) ?? 0n) | FLAG[kind]);
}

/** Memory and handlers: a task gets them from a creator who has them, or is the first to have them. */
function keep(steps: readonly TreeStep[], kind: Kind, on: { objects: SharedObjects; flags: Map<number, bigint> }): Stuck | undefined {
  const made = new Set<number>();
  for (const [at, step] of steps.entries()) {
    const object = step.do === "create" ? on.objects.get(step.pid)?.[kind] : undefined;
    if (step.do !== "create" || object === undefined) continue;
    if (on.objects.get(step.by)?.[kind] === object) addFlag(on.flags, step.pid, kind);
    else if (made.has(object)) return { at, kind, object };
    made.add(object);
  }
  return undefined;
}

/** How one kind of object that can be given up again is passed on through the creations. */
class Passing {
  readonly #steps: readonly TreeStep[];
  readonly #kind: (typeof PASSED_ON)[number];
  readonly #objects: SharedObjects;
  /** For each task, the object that comes in from outside of those it creates, directly or not. */
  readonly #comesIn: ReadonlyMap<number, number | undefined>;
  /** What a task has now; a fresh one has no number yet. */
  readonly #has = new Map<number, number | undefined>();
  /** Objects that somebody has or had. */
  readonly #made = new Set<number>();

  constructor(steps: readonly TreeStep[], kind: (typeof PASSED_ON)[number], objects: SharedObjects) {
    this.#steps = steps;
    this.#kind = kind;
    this.#objects = objects;
    this.#comesIn = comingIn(steps, (pid) => this.#wanted(pid));
  }

  run(flags: Map<number, bigint>, unshares: Map<number, TreeStep[]>): Stuck | undefined {
    for (const [at, step] of this.#steps.entries()) {
      if (step.do !== "create") continue;
      const object = this.#comesIn.get(step.pid);
      if (object === undefined) {
        this.#has.set(step.pid, undefined);
        continue;
      }
      if (this.#take(step.by, object, () => this.#unshare(unshares, at, step.by))) addFlag(flags, step.pid, this.#kind);
      else if (this.#made.has(object)) return { at, kind: this.#kind, object };
      // The creator cannot have it, but nobody has it yet: who comes later may get it from this one.
      this.#made.add(object);
      this.#has.set(step.pid, object);
    }
    for (const pid of this.#has.keys()) {
      const object = this.#wanted(pid);
      if (object === undefined || this.#take(pid, object, () => this.#unshare(unshares, this.#steps.length, pid))) continue;
      return { at: this.#steps.findIndex((step) => step.do === "create" && step.pid === pid), kind: this.#kind, object };
    }
    return undefined;
  }

  /** Brings a task to have an object, if it can. */
  #take(pid: number, object: number, unshare: () => void): boolean {
    const has = this.#has.get(pid);
    if (has === object) return true;
    if (this.#made.has(object)) return false;
    // What it is to have in the end it cannot get back.
    if (has !== undefined && has === this.#wanted(pid)) return false;
    if (has !== undefined) unshare();
    this.#has.set(pid, object);
    this.#made.add(object);
    return true;
  }

  #wanted(pid: number): number | undefined {
    return this.#objects.get(pid)?.[this.#kind];
  }

  #unshare(unshares: Map<number, TreeStep[]>, at: number, pid: number): void {
    unshares.set(at, [...(unshares.get(at) ?? []), { do: "unshare", pid, what: FLAG[this.#kind] }]);
  }
}

/** An object comes in where some of those who have it are created below a task, or it itself, and others are not. */
function comingIn(steps: readonly TreeStep[], wanted: (pid: number) => number | undefined): Map<number, number | undefined> {
  const below = new Map<number, Map<number, number>>();
  const total = new Map<number, number>();
  for (const step of [...steps].reverse()) {
    if (step.do !== "create") continue;
    const own = below.get(step.pid) ?? new Map<number, number>();
    const object = wanted(step.pid);
    if (object !== undefined) {
      own.set(object, (own.get(object) ?? 0) + 1);
      total.set(object, (total.get(object) ?? 0) + 1);
    }
    below.set(step.pid, own);
    const above = below.get(step.by) ?? new Map<number, number>();
    for (const [id, count] of own) above.set(id, (above.get(id) ?? 0) + count);
    below.set(step.by, above);
  }
  below.delete(OUTSIDE);
  // Of several only one can come with the birth. The others end as stuck where somebody wants to have them.
  const first = (own: Map<number, number>) => [...own].find(([id, count]) => count < (total.get(id) ?? 0))?.[0];
  return new Map([...below].map(([pid, own]) => [pid, first(own)]));
}

/** The steps with the stuck creation done by a sharer that has the same parent, session and group; undefined: there is none. */
function bornBesideSharer(steps: readonly TreeStep[], stuck: Stuck, tree: Tree): TreeStep[] | undefined {
  const step = steps[stuck.at] as Create;
  if (step.asSibling || step.by === OUTSIDE) return undefined;
  const model = emptyWorld(tree.tasks, tree.inherited);
  for (const before of steps.slice(0, stuck.at)) applyStep(model, before, tree.inherited);
  const creator = model.tasks.get(step.by);
  for (const task of model.tasks.values()) {
    if (tree.objects.get(task.pid)?.[stuck.kind] !== stuck.object || task.ppid !== step.by) continue;
    if (task.zombie || task.sid !== creator?.sid || task.pgid !== creator.pgid) continue;
    const changed = [...steps.slice(0, stuck.at), { ...step, by: task.pid, asSibling: true }, ...steps.slice(stuck.at + 1)];
    if (isProven(changed, tree)) return changed;
  }
  return undefined;
}

function isProven(steps: readonly TreeStep[], { tasks, inherited }: Tree): boolean {
  const model = emptyWorld(tasks, inherited);
  try {
    simulate(
      model,
      steps.map((step) => [step]),
      inherited,
    );
  } catch (error) {
    if (error instanceof ModelError) return false;
    throw error;
  }
  return differences(model, tasks, false).length === 0;
}

function withUnshares(steps: readonly TreeStep[], unshares: ReadonlyMap<number, TreeStep[]>): Round[] {
  const all = [...steps, undefined].flatMap((step, at) => [...(unshares.get(at) ?? []), ...(step === undefined ? [] : [step])]);
  return all.map((step) => [step]);
}

function memoryLenders(steps: readonly TreeStep[], tree: Tree): Map<number, number | undefined> {
  const holds = new Map<number, number | undefined>();
  const from = new Map<number, number | undefined>();
  const real = new Set(tree.tasks.map((task) => task.pid));
  for (const step of steps) {
    if (step.do === "memory") holds.set(step.pid, step.pid);
    if (step.do !== "create") continue;
    holds.set(step.pid, holds.get(step.by));
    if (real.has(step.pid)) from.set(step.pid, holds.get(step.by));
  }
  return from;
}

function refuse(step: Create, { kind, object }: Stuck, tree: Tree, verb: "dump" | "restore"): never {
  const others = [...tree.objects].filter(([pid, has]) => pid !== step.pid && has[kind] === object).map(([pid]) => pid);
  throw new Refusal(
    {
      code: kind === "vm" || kind === "sighand" ? "MEMORY_SHARED_APART" : "TABLE_SHARED_APART",
      process: { pid: step.pid, comm: tree.tasks.find((task) => task.pid === step.pid)?.comm ?? "?" },
      resource: `its ${NAMES[kind]}`,
      because: `it is shared with process ${others.join(", ")}, and no order of making them leads to that`,
      remedy: ["Dump the processes at a time when they do not share it", "Include the process that created them in the tree"],
    },
    verb,
  );
}
