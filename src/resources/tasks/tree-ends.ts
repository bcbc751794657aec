/**
 * The last part of a plan: temporary tasks end, orphans move up to their saved parents, zombies die.
 *
 * Deepest first: below what ends nothing waits to move any more, and above it nothing has moved yet, so every ancestor
 * it had at birth can still get the orphans.
 */
import type { Carriers } from "./tree-births.js";
import type { Draft } from "./tree-draft.js";
import type { TreeTask } from "./tree-steps.js";

export function addEnds(draft: Draft, carriers: Carriers): void {
  // By depth, then by who gets the orphans, so that a subreaper flag is set once for many.
  const heirs = new Map<number, Map<number | undefined, number[]>>();
  const depth = depths(draft);
  for (const { pid } of draft.temporary) {
    const heir = carriers.get(pid);
    const level = heirs.get(depth.get(pid) ?? 0) ?? new Map<number | undefined, number[]>();
    heirs.set(depth.get(pid) ?? 0, level);
    const group = level.get(heir);
    if (group === undefined) level.set(heir, [pid]);
    else group.push(pid);
  }
  for (const [, level] of [...heirs].sort(([a], [b]) => b - a)) {
    for (const [heir, pids] of level) endAll(draft, pids, heir);
  }
}

function endAll(draft: Draft, pids: readonly number[], heir: number | undefined): void {
  const needsFlag = heir !== undefined && pids.some((pid) => draft.model.reaperOf(pid) !== heir);
  if (needsFlag) draft.add({ do: "subreaper", pid: heir, on: true });
  for (const pid of pids) draft.endAndReap(pid);
  if (needsFlag) draft.add({ do: "subreaper", pid: heir, on: false });
}

/** Number of ancestors of every task there is. */
function depths(draft: Draft): ReadonlyMap<number, number> {
  const depth = new Map<number, number>();
  const queue: number[] = [];
  for (const task of draft.model.tasks.values()) if (!draft.model.tasks.has(task.ppid)) queue.push(task.pid);
  for (const pid of queue) {
    const task = draft.now(pid);
    depth.set(pid, (depth.get(task.ppid) ?? -1) + 1);
    queue.push(...task.children);
  }
  return depth;
}

export function addZombies(draft: Draft): void {
  for (const task of draft.tasks) if (task.state === "zombie") draft.add({ do: "exit", pid: task.pid });
}

/** Ends the helpers; `tasks` have parents before children. */
export function addHelperEnds(draft: Draft): void {
  const children = new Map<number, TreeTask[]>();
  for (const task of draft.tasks) {
    if (draft.byPid.get(task.ppid)?.state === "helper" && task.state === "zombie") {
      children.set(task.ppid, [...(children.get(task.ppid) ?? []), task]);
    }
  }
  for (const helper of draft.tasks.filter((task) => task.state === "helper").reverse()) {
    for (const child of children.get(helper.pid) ?? []) draft.add({ do: "reap", pid: child.pid, by: helper.pid });
    draft.endAndReap(helper.pid);
  }
}
