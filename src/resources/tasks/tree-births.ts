/**
 * Who creates whom, in which order: all tasks and session leaders of a layout come into being, each in its session.
 *
 * A task of session s is born at place p either by p itself while p is in s, or by a member of s that is below p. In the
 * second case, and where p is not the saved parent, a carrier in between makes the task an orphan later, so that it
 * moves up (tree-ends.ts). A direct child of p that is in s needs no carrier: it creates a sibling.
 */
import { invariant } from "../../errors.js";
import type { Draft } from "./tree-draft.js";
import { birthSession, isLeader, leaderNeeded, NONE, ROOT, type Layout } from "./tree-layout.js";
import { OUTSIDE } from "./tree-steps.js";

/** Where the children of carriers end up: pid of the carrier -> pid of the task it hands them to. */
export type Carriers = Map<number, number>;

interface Births {
  readonly draft: Draft;
  readonly layout: Layout;
  readonly carriers: Carriers;
  /** A carrier by who made it, in which session, for whom. */
  readonly carrierFor: Map<string, number>;
  /** A child of a task that is in a session for good, by both. */
  readonly childIn: Map<string, number>;
}

/** A task's birth, or the moment it is in its last session. */
interface Event {
  readonly node: number;
  readonly what: "birth" | "settled";
}

export function addBirths(draft: Draft, layout: Layout): Carriers {
  const births: Births = { draft, layout, carriers: new Map(), carrierFor: new Map(), childIn: new Map() };
  for (const event of eventOrder(layout)) {
    if (event.what === "birth") bear(births, event.node);
    else settle(births, event.node);
  }
  return births.carriers;
}

/**
 * Events in an order in which a birth comes after that of its place and after the leader of its session has settled, and
 * a leader settles after the births that need the session it is in before.
 */
function eventOrder(layout: Layout): readonly Event[] {
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
  invariant(ready.length === waiting.length, "the births of the tree have no order");
  return ready.map((event) => ({ node: event >> 1, what: event % 2 === 0 ? "birth" : "settled" }));
}

function bear(births: Births, node: number): void {
  const { draft, layout } = births;
  const pid = layout.pid[node] ?? 0;
  const task = layout.tasks[node];
  if (task === undefined) draft.temporary.push({ pid, kind: "session leader" });
  if (node === ROOT) draft.create(pid, OUTSIDE);
  else createAt(births, node);
  if (task === undefined || isLeader(layout, node) || draft.now(pid).pgid === task.pgid) return;
  // As early as can be, so that children are born in the group too.
  const exists = task.pgid === pid || draft.model.group(task.pgid)?.sid === task.sid;
  if (exists) draft.add({ do: "setpgid", pid, pgid: task.pgid });
}

function settle(births: Births, node: number): void {
  const { draft, layout, childIn } = births;
  const pid = layout.pid[node] ?? 0;
  if (isLeader(layout, node)) draft.add({ do: "setsid", pid });
  const { ppid, sid } = draft.now(pid);
  const key = `${ppid}:${sid}`;
  if (!childIn.has(key)) childIn.set(key, pid);
}

function createAt(births: Births, node: number): void {
  const { draft, layout, childIn } = births;
  const pid = layout.pid[node] ?? 0;
  const session = birthSession(layout, node);
  const place = layout.pid[layout.place[node] ?? ROOT] ?? 0;
  const saved = layout.parent[node] ?? NONE;
  const parent = saved === NONE ? place : (layout.pid[saved] ?? 0);
  if (session === NONE || draft.now(place).sid === session) {
    draft.create(pid, parent === place ? place : carrier(births, place, parent));
    return;
  }
  const sibling = parent === place ? childIn.get(`${place}:${session}`) : undefined;
  if (sibling !== undefined) {
    draft.create(pid, sibling, true);
    return;
  }
  const leader = layout.leaderOf.get(session);
  invariant(leader !== undefined, `process ${pid} has no way into session ${session}`);
  draft.create(pid, carrier(births, layout.pid[leader] ?? 0, parent));
}

/** A child of `creator`, in its present session, whose children will be those of `parent`. */
function carrier(births: Births, creator: number, parent: number): number {
  const { draft, carriers, carrierFor } = births;
  const key = `${creator}:${draft.now(creator).sid}:${parent}`;
  const found = carrierFor.get(key);
  if (found !== undefined) return found;
  const pid = draft.createTemporary("carrier", creator);
  carrierFor.set(key, pid);
  carriers.set(pid, parent);
  return pid;
}
