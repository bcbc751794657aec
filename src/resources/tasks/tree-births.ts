/**
 * Who creates whom, in which order: all tasks and session leaders of a layout come into being, each in its session.
 *
 * A task of session s is born at place p either by p itself while p is in s, or by a member of s that is below p. In the
 * second case, and where p is not the saved parent, a carrier in between makes the task an orphan later, so that it
 * moves up (tree-ends.ts). A direct child of p that is in s needs no carrier: it creates a sibling.
 */
import { invariant } from "../../errors.js";
import type { Draft } from "./tree-draft.js";
import { birthEvents, birthSession, isLeader, NONE, ROOT, type Layout } from "./tree-layout.js";
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

export function addBirths(draft: Draft, layout: Layout): Carriers {
  const births: Births = { draft, layout, carriers: new Map(), carrierFor: new Map(), childIn: new Map() };
  for (const { node, what } of birthEvents(layout)) {
    if (what === "birth") bear(births, node);
    else settle(births, node);
  }
  return births.carriers;
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
