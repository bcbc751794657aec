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

/** A task's birth, or the moment it is in its last session. */
export interface BirthEvent {
  readonly node: number;
  readonly what: "birth" | "settled";
}

/**
 * Events in an order in which a birth comes after that of its place and after the leader of its session has settled, and
 * a leader settles after the births that need the session it is in before. Events that wait for each other are left out.
 */
export function birthEvents(layout: Layout): readonly BirthEvent[] {
  const waiting = new Array<number>(2 * layout.count).fill(0);
  const unblocks: number[][] = Array.from({ length: 2 * layout.count }, () => []);
  const order = (before: number, after: number): void => {
    unblocks[before]?.push(after);
    waiting[after] = (waiting[after] ?? 0) + 1;
  };
  for (let node = 0; node < layout.count; node += 1) order(2 * node, 2 * node + 1);
  for (let node = 0; node < layout.count; node += 1) {
    const place = layout.place[node] ?? NONE;
    const leader = leaderNeeded(layout, node);
    if (place !== NONE) {
      order(2 * place, 2 * node);
      const slot = layout.slot[place] ?? NONE;
      const needsSlot = slot !== NONE && isLeader(layout, place) && birthSession(layout, node) === slot;
      if (needsSlot) order(2 * node, 2 * place + 1);
    }
    if (leader !== NONE) order(2 * leader + 1, 2 * node);
  }
  const ready: number[] = [];
  for (let event = 0; event < waiting.length; event += 1) if (waiting[event] === 0) ready.push(event);
  for (const done of ready) {
    for (const event of unblocks[done] ?? []) {
      waiting[event] = (waiting[event] ?? 0) - 1;
      if (waiting[event] === 0) ready.push(event);
    }
  }
  return ready.map((event) => ({ node: event >> 1, what: event % 2 === 0 ? "birth" : "settled" }));
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
