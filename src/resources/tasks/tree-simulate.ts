/**
 * Carries out a tree plan on the model of tree-model.ts, to prove it before anything is made.
 */
import { TreeModel } from "./tree-model.js";
import { type Inherited, OUTSIDE, type Round, type TreeStep, type TreeTask, actorOf } from "./tree-steps.js";

/** Stands for the coordinator's session or group where no task of the tree is to stay in it; no pid is negative. */
const NOBODYS = -1;

/** Session and group that the seed is in, by the numbers that the tree has for them. */
function seedPlace(inherited: Inherited | undefined): { sid: number; pgid: number } {
  return { sid: inherited?.sid ?? NOBODYS, pgid: inherited?.pgid ?? NOBODYS };
}

/** The world before the first step: the coordinator's session and group, and the numbers that threads will have. */
export function emptyWorld(tasks: readonly TreeTask[], inherited: Inherited | undefined): TreeModel {
  const root = tasks[0];
  const model = new TreeModel(root?.pid === 1 ? 1 : undefined);
  const { sid, pgid } = seedPlace(inherited);
  model.addOutsideGroup(pgid, sid);
  for (const task of tasks) {
    for (const tid of task.threads) if (tid !== task.pid) model.reserve(tid);
  }
  return model;
}

/** Does one step in the model; throws ModelError where the kernel would refuse it. */
export function applyStep(model: TreeModel, step: TreeStep, inherited: Inherited | undefined): void {
  switch (step.do) {
    case "create":
      if (step.by === OUTSIDE) model.enter({ pid: step.pid, ...seedPlace(inherited), leads: false });
      else model.clone(step.by, step.pid, step.asSibling);
      return;
    case "memory":
      model.alive(step.pid, "filling the memory");
      return;
    case "unshare":
      model.alive(step.pid, "unshare()");
      return;
    case "setsid":
      model.setsid(step.pid);
      return;
    case "setpgid":
      model.setpgid(step.pid, step.pgid);
      return;
    case "subreaper":
      model.setSubreaper(step.pid, step.on);
      return;
    case "exit":
      model.exit(step.pid);
      return;
    case "reap":
      model.reap(step.pid, step.by);
      return;
  }
}

/** Carries out rounds as the engine does: one actor of a round after the other, in the order `arrange` gives them. */
export function simulate(
  model: TreeModel,
  rounds: readonly Round[],
  inherited: Inherited | undefined,
  arrange: (actors: number[]) => readonly number[] = (actors) => actors,
): void {
  for (const round of rounds) {
    const steps = new Map<number, TreeStep[]>();
    for (const step of round) {
      const own = steps.get(actorOf(step));
      if (own === undefined) steps.set(actorOf(step), [step]);
      else own.push(step);
    }
    for (const actor of arrange([...steps.keys()])) {
      for (const step of steps.get(actor) ?? []) applyStep(model, step, inherited);
    }
  }
}

/** What is not as wanted; empty when all is. `finished`: helpers must be gone, and what was below them. */
export function differences(model: TreeModel, tasks: readonly TreeTask[], finished: boolean): readonly string[] {
  const found: string[] = [];
  const isHelper = new Map(tasks.map((task) => [task.pid, task.state === "helper"]));
  const wanted = tasks.filter((task) => !finished || !(isHelper.get(task.pid) || isHelper.get(task.ppid)));
  for (const task of wanted) {
    const made = model.tasks.get(task.pid);
    if (made === undefined) {
      found.push(`process ${task.pid} is missing`);
      continue;
    }
    const isRoot = task === tasks[0];
    const compare = (what: string, is: unknown, should: unknown): void => {
      if (is !== should) found.push(`process ${task.pid} has ${what} ${is}, not ${should}`);
    };
    compare("parent", made.ppid, isRoot ? OUTSIDE : task.ppid);
    compare("session", made.sid, task.sid);
    compare("group", made.pgid, task.pgid);
    compare("death", made.zombie, task.state === "zombie");
    compare("subreaper flag", made.subreaper, false);
  }
  const pids = new Set(wanted.map((task) => task.pid));
  for (const pid of model.tasks.keys()) if (!pids.has(pid)) found.push(`process ${pid} is left over`);
  return found;
}
