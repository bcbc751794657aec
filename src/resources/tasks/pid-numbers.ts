/**
 * Process numbers of a tree in a pid namespace of its own: what the kernel tells Floe of owners and groups are the numbers
 * that Floe sees; images have those that the tree sees itself.
 *
 * Read from   /proc/PID/status: NSpgid, NSsid; /proc/PID/stat
 */
import { existsSync } from "node:fs";
import { readStat, readStatus } from "../../linux/proc/read.js";
import { outsideNumber } from "../../target/outside-pid.js";
import type { DumpSession, DumpTask, RestoreSession } from "../part.js";

/** What a number that Floe sees is in the tree's own pid namespace: of a process or thread; 0 where it is not in there. */
export function insidePid(pid: number, { tasks }: Pick<DumpSession, "tasks">): number {
  if (isOurs(tasks)) return pid;
  for (const { traced } of tasks) {
    if (traced.tgid === pid) return traced.nsPid;
    const thread = traced.threads.find(({ tid }) => tid === pid);
    if (thread !== undefined) return thread.nsTid;
  }
  return 0;
}

/** The same of a process group; negative numbers are other people's, as everywhere in the kernel. */
export function insideGroup(pgid: number, { tasks }: Pick<DumpSession, "tasks">): number {
  if (isOurs(tasks)) return pgid;
  return tasks.find(({ stat }) => stat.pgrp === pgid)?.status.nsPgid.at(-1) ?? 0;
}

/** The same of a session. */
export function insideSession(sid: number, { tasks }: Pick<DumpSession, "tasks">): number {
  if (isOurs(tasks)) return sid;
  return tasks.find(({ stat }) => stat.session === sid)?.status.nsSid.at(-1) ?? 0;
}

function isOurs(tasks: readonly DumpTask[]): boolean {
  return tasks[0]?.traced.isInOurPidNamespace ?? true;
}

/** What we call the process or thread that images call `pid`, when all of the tree has been made. */
export function outsidePid(pid: number, { tasks }: RestoreSession): number {
  const root = tasks[0]?.traced;
  return root === undefined || root.isInOurPidNamespace ? pid : (outsideNumber(root.pid, pid) ?? pid);
}

/** The same; undefined: there is none now. */
export function outsideOf(pid: number, { tasks }: RestoreSession): number | undefined {
  const root = tasks[0]?.traced;
  if (root !== undefined && !root.isInOurPidNamespace) return outsideNumber(root.pid, pid);
  return existsSync(`/proc/${pid}`) ? pid : undefined;
}

/** The same of a process group of the tree. */
export function outsideGroup(pgid: number, { tasks }: RestoreSession): number {
  if (tasks[0]?.traced.isInOurPidNamespace ?? true) return pgid;
  const member = tasks.find(({ traced }) => readStatus(traced.pid).nsPgid.at(-1) === pgid);
  return member === undefined ? pgid : readStat(member.traced.pid).pgrp;
}
