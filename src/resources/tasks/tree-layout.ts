/**
 * The tasks and dead session leaders of a tree as numbered nodes, with the two things that planning has to choose.
 *
 * A node's `place` is the parent it is born below. It is the saved parent, or a descendant of that from where it moves up
 * later, as orphans do. A leader's `slot` is the session it is born in, where that matters because it has children
 * from before its setsid(). Both arrays are filled in by tree-search.ts.
 */
import type { Inherited, TreeTask } from "./tree-steps.js";

export const NONE = -1;
export const ROOT = 0;

export interface Layout {
  /** Real tasks, parents first; node i < tasks.length is tasks[i], the nodes behind are dead session leaders. */
  readonly tasks: readonly TreeTask[];
  readonly count: number;
  readonly pid: readonly number[];
  /** The final session. */
  readonly sid: readonly number[];
  /** The saved parent; NONE for the root and for dead leaders. */
  readonly parent: readonly number[];
  /** Session -> node of its leader; the inherited session has none. */
  readonly leaderOf: ReadonlyMap<number, number>;
  readonly place: number[];
  readonly slot: number[];
}

export function makeLayout(tasks: readonly TreeTask[], inherited: Inherited | undefined): Layout {
  const index = new Map(tasks.map((task, node) => [task.pid, node]));
  const pid = tasks.map((task) => task.pid);
  const sid = tasks.map((task) => task.sid);
  const parent = tasks.map((task, node) => (node === ROOT ? NONE : (index.get(task.ppid) ?? ROOT)));
  const place = [...parent];
  const leaderOf = new Map<number, number>();
  tasks.forEach((task, node) => {
    if (task.sid === task.pid) leaderOf.set(task.sid, node);
  });
  for (const task of tasks) {
    if (leaderOf.has(task.sid) || task.sid === inherited?.sid) continue;
    leaderOf.set(task.sid, pid.length);
    pid.push(task.sid);
    sid.push(task.sid);
    parent.push(NONE);
    place.push(ROOT);
  }
  const slot = new Array<number>(pid.length).fill(NONE);
  if (inherited !== undefined) slot[ROOT] = inherited.sid;
  return { tasks, count: pid.length, pid, sid, parent, leaderOf, place, slot };
}

export function isLeader(layout: Layout, node: number): boolean {
  return layout.sid[node] === layout.pid[node];
}

/** The session a node must be born in, NONE when any will do. */
export function birthSession(layout: Layout, node: number): number {
  return (isLeader(layout, node) ? layout.slot[node] : layout.sid[node]) ?? NONE;
}

/** Is the node in the session at some time of its life? */
export function everIn(layout: Layout, node: number, session: number): boolean {
  return layout.sid[node] === session || layout.slot[node] === session;
}

/** Is `upper` a proper ancestor of `lower` by place? */
export function isAbove(layout: Layout, upper: number, lower: number): boolean {
  let up = layout.place[lower] ?? NONE;
  while (up !== NONE && up !== upper) up = layout.place[up] ?? NONE;
  return up === upper;
}

/** The leader that must exist before the node is born, NONE when there is none. */
export function leaderNeeded(layout: Layout, node: number): number {
  const session = birthSession(layout, node);
  return session === NONE ? NONE : (layout.leaderOf.get(session) ?? NONE);
}

/** Must `from` be born after `to`? */
export function dependsOn(layout: Layout, from: number, to: number): boolean {
  const seen = new Set<number>();
  const stack = [from];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (node === to) return true;
    if (seen.has(node)) continue;
    seen.add(node);
    const place = layout.place[node] ?? NONE;
    const leader = leaderNeeded(layout, node);
    if (place !== NONE) stack.push(place);
    if (leader !== NONE) stack.push(leader);
  }
  return false;
}
