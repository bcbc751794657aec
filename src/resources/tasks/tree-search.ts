/**
 * Chooses places and slots (tree-layout.ts) such that every task can be born into its session.
 *
 * A session spreads by birth only, and a task's ancestors only ever become fewer (an orphan goes to an ancestor of its
 * dead parent). So a task of session s can get parent p only if p is, for some time, in s itself, or if the leader of s
 * was born below p: every member of s has the ancestors of the leader, and further members. That gives the one condition
 * a choice must meet, for each node t that is born in s at place p:
 *
 *     p is ever in s,   or   p is above the leader of s by place;
 *
 * and births must have an order (nobody before its place, nobody before its session's leader). These suffice:
 * tree-births.ts then always knows who creates whom. They are necessary: a history's own order of births meets them.
 *
 * Where the condition fails for (p, s) there are three ways, and no others. Slot: p is a leader and is born in s. Or p
 * must be above the leader of s, so the two lines of ancestors below their nearest common one become a single line: its
 * first node on the one side goes below the first of the other side, or the other way around. Each way only adds to the
 * order, so tried ways never undo what holds already, and a search with undo is complete.
 */
import { birthEvents, birthSession, dependsOn, everIn, isAbove, isLeader, NONE, ROOT, type Layout } from "./tree-layout.js";

/** Ways tried before the search gives up; what real programs leave behind needs about one per task. */
const MAX_TRIES = 50_000;

export type SearchResult = { readonly found: true } | { readonly found: false; readonly stuckOn: number; readonly gaveUp: boolean };

type Change = { readonly what: "place" | "slot"; readonly node: number; readonly to: number };
type Pending = { readonly node: number; readonly next: Pending | undefined };

/** One node whose condition fails, and the ways that are left to try. */
interface Choice {
  readonly pending: Pending;
  readonly ways: readonly Change[];
  tried: number;
  undo: { readonly change: Change; readonly was: number } | undefined;
}

/** Changes `layout.place` and `layout.slot` until every node can be born, if that is possible. */
export function findPlaces(layout: Layout): SearchResult {
  const unborn = unbornNode(layout);
  if (unborn !== undefined) return { found: false, stuckOn: unborn, gaveUp: false };
  const initial: number[] = [];
  for (let node = layout.count - 1; node > ROOT; node -= 1) if (!isSatisfied(layout, node)) initial.push(node);
  let pending: Pending | undefined;
  for (const node of initial) pending = { node, next: pending };
  const choices: Choice[] = [];
  let tries = 0;
  for (;;) {
    while (pending !== undefined && isSatisfied(layout, pending.node)) pending = pending.next;
    if (pending === undefined) return { found: true };
    choices.push({ pending, ways: waysFor(layout, pending.node), tried: 0, undo: undefined });
    pending = undefined;
    while (pending === undefined) {
      const choice = choices.at(-1);
      if (choice === undefined || tries > MAX_TRIES) {
        return { found: false, stuckOn: initial[0] ?? ROOT, gaveUp: choice !== undefined };
      }
      tries += 1;
      pending = tryNext(layout, choice);
      if (pending === undefined) choices.pop();
    }
  }
}

/** A node that waits for itself by way of others, as a leader below a member of its session; no choice can change that. */
function unbornNode(layout: Layout): number | undefined {
  const born = new Set<number>();
  for (const { node, what } of birthEvents(layout)) if (what === "birth") born.add(node);
  for (let node = 0; node < layout.count; node += 1) if (!born.has(node)) return node;
  return undefined;
}

/** Takes back the choice's last way and applies its next possible one; the nodes to look at then, or undefined. */
function tryNext(layout: Layout, choice: Choice): Pending | undefined {
  if (choice.undo !== undefined) write(layout, choice.undo.change, choice.undo.was);
  choice.undo = undefined;
  for (;;) {
    const way = choice.ways[choice.tried];
    if (way === undefined) return undefined;
    choice.tried += 1;
    if (!keepsOrder(layout, way)) continue;
    choice.undo = { change: way, was: write(layout, way, way.to) };
    // What held goes on to hold, but for the changed node: its place or its birth session is another now.
    return { node: way.node, next: choice.pending };
  }
}

function write(layout: Layout, change: Change, value: number): number {
  const list = change.what === "place" ? layout.place : layout.slot;
  const was = list[change.node] ?? NONE;
  list[change.node] = value;
  return was;
}

function keepsOrder(layout: Layout, change: Change): boolean {
  if (change.what === "place") return !dependsOn(layout, change.to, change.node);
  const leader = layout.leaderOf.get(change.to);
  return leader === undefined || !dependsOn(layout, leader, change.node);
}

function isSatisfied(layout: Layout, node: number): boolean {
  if (node === ROOT) return true;
  return isServed(layout, layout.place[node] ?? ROOT, birthSession(layout, node));
}

/** Can a task of the session be born at the place? */
function isServed(layout: Layout, place: number, session: number): boolean {
  if (session === NONE || everIn(layout, place, session)) return true;
  const leader = layout.leaderOf.get(session);
  return leader !== undefined && isAbove(layout, place, leader);
}

/** The ways out for a node whose condition fails, likeliest first. */
function waysFor(layout: Layout, node: number): readonly Change[] {
  const place = layout.place[node] ?? ROOT;
  const session = birthSession(layout, node);
  const ways: Change[] = [];
  const slot: Change = { what: "slot", node: place, to: session };
  const canSlot = place !== ROOT && isLeader(layout, place) && layout.slot[place] === NONE;
  const slotIsFree = canSlot && isServed(layout, layout.place[place] ?? ROOT, session);
  if (slotIsFree) ways.push(slot);
  const leader = layout.leaderOf.get(session);
  const fork = leader === undefined ? undefined : forkOf(layout, place, leader);
  if (fork !== undefined) {
    // A leader that may be born in any session needs nothing at its new place: below all of the line at once.
    if (birthSession(layout, fork.toLeader) === NONE) ways.push({ what: "place", node: fork.toLeader, to: place });
  }
  if (canSlot && !slotIsFree) ways.push(slot);
  if (fork !== undefined) {
    if (fork.toPlace !== place || birthSession(layout, fork.toLeader) !== NONE) {
      ways.push({ what: "place", node: fork.toLeader, to: fork.toPlace });
    }
    if (fork.toLeader !== leader) ways.push({ what: "place", node: fork.toPlace, to: fork.toLeader });
  }
  return ways;
}

/** The children of the nearest common ancestor on the ways to both nodes; undefined when one is above the other. */
function forkOf(layout: Layout, place: number, leader: number): { toPlace: number; toLeader: number } | undefined {
  const below = new Map<number, number>();
  let from = NONE;
  for (let up = place; up !== NONE; up = layout.place[up] ?? NONE) {
    below.set(up, from);
    from = up;
  }
  let toLeader = NONE;
  let up = leader;
  while (up !== NONE && !below.has(up)) {
    toLeader = up;
    up = layout.place[up] ?? NONE;
  }
  const toPlace = below.get(up) ?? NONE;
  return toLeader === NONE || toPlace === NONE ? undefined : { toPlace, toLeader };
}
