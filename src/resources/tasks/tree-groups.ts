/**
 * Process groups, once every task is in its session: who makes them, in which order tasks join, who leaves at last.
 *
 * A group is made by the task with its number. Where that is dead a temporary task makes it. Where it lives but is in
 * another group now, it leaves when somebody has joined, and a ring of such leaders needs a holder to begin with.
 */
import { invariant } from "../../errors.js";
import type { Draft } from "./tree-draft.js";
import type { TreeTask } from "./tree-steps.js";

export function addGroups(draft: Draft): void {
  const waiting = draft.tasks.filter((task) => draft.now(task.pid).pgid !== task.pgid);
  const leavers = new Set<number>();
  for (const task of waiting) {
    if (draft.model.group(task.pgid) === undefined) makeGroup(draft, task, leavers);
  }
  for (const task of waiting) {
    if (!leavers.has(task.pid) && draft.now(task.pid).pgid !== task.pgid) join(draft, task);
  }
  addLeavers(draft, leavers);
}

/** Makes the group that `member` is to be in, which nobody is in yet. */
function makeGroup(draft: Draft, member: TreeTask, leavers: Set<number>): void {
  const { pgid } = member;
  const leader = draft.byPid.get(pgid);
  if (leader === undefined) draft.createTemporary("group leader", member.pid, pgid);
  draft.add({ do: "setpgid", pid: pgid, pgid });
  if (leader !== undefined && leader.pgid !== pgid) leavers.add(pgid);
}

function join(draft: Draft, task: TreeTask): void {
  draft.add({ do: "setpgid", pid: task.pid, pgid: task.pgid });
}

function addLeavers(draft: Draft, leavers: Set<number>): void {
  const members = (pgid: number): number => draft.model.group(pgid)?.members ?? 0;
  const ready: number[] = [];
  const look = (pid: number): void => {
    if (leavers.has(pid) && members(pid) > 1) ready.push(pid);
  };
  for (const pid of leavers) look(pid);
  for (;;) {
    const pid = ready.pop() ?? leavers.values().next().value;
    if (pid === undefined) return;
    const task = draft.byPid.get(pid);
    invariant(task !== undefined, `the leader ${pid} of a group is no process of the tree`);
    // A ring: each is alone in its group and waits for another of them.
    if (members(pid) === 1) draft.createTemporary("holder", pid);
    leavers.delete(pid);
    join(draft, task);
    look(task.pgid);
  }
}
