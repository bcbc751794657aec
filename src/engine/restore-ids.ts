/**
 * Process and thread ids: whether those that a tree had are free.
 *
 * `floe dump -o - | floe restore -` comes here while the tree just dumped is about to die, or waits for its parent to take notice.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Problems, Refusal } from "../errors.js";
import { readStat, readStatus } from "../linux/proc/read.js";
import type { Problem } from "../resources/part.js";
import type { SavedTask } from "./restore-load.js";

/** How long those that are on their way out are waited for, in milliseconds: a busy machine takes a while, some parents for ever. */
const DEATH_WAIT_MS = 3000;
/** include/linux/sched.h */
const PF_EXITING = 0x4;
const SIGKILL_BIT = 1n << 8n;

function idsOf(task: SavedTask): readonly number[] {
  return task.living === undefined ? [task.pid] : task.living.threads.map((t) => t.tid);
}

/** Returns whether any is left. */
function waitForTheDying(ids: readonly number[]): boolean {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  let taken = ids.filter(isTaken);
  for (const until = performance.now() + DEATH_WAIT_MS; taken.some(isDying) && performance.now() < until; Atomics.wait(nap, 0, 0, 2)) {
    taken = taken.filter(isTaken);
  }
  return taken.length > 0;
}

function isTaken(id: number): boolean {
  return existsSync(`/proc/${id}`);
}

/** Dead, dying, or held by somebody: by the dump, perhaps, that is about to kill it. */
function isDying(id: number): boolean {
  try {
    const { state, flags } = readStat(id);
    if ("ZXt".includes(state) || (flags & PF_EXITING) !== 0) return true;
    const { sigPnd, shdPnd } = readStatus(id);
    return ((sigPnd | shdPnd) & SIGKILL_BIT) !== 0n;
  } catch {
    return true; // it has gone meanwhile
  }
}

const LAST_PID = "/proc/sys/kernel/ns_last_pid";
/** More processes and threads than are born while a tree is restored, most of them ours. */
const SOON = 1000;

/** Has new processes and threads, ours and others', get ids behind those that are needed and would be next. */
function stepAside(ids: readonly number[]): void {
  try {
    const last = Number(readFileSync(LAST_PID, "latin1"));
    const next = ids.filter((id) => id > last && id <= last + SOON);
    if (next.length > 0) writeFileSync(LAST_PID, `${Math.max(...next)}`);
  } catch {
    // Not allowed here: they may get in the way, and it is said.
  }
}

/** An id that a thread of Floe itself has: it is free as soon as Floe has begun anew. */
class OwnThread extends Refusal {}

/** Whether all that is wrong is that threads of our own have ids that the tree needs. */
export function isInOwnWay(error: unknown): boolean {
  const problems = error instanceof Problems ? error.problems : [error];
  return problems.every((problem) => problem instanceof OwnThread);
}

function isOwnThread(id: number): boolean {
  return id !== process.pid && existsSync(`/proc/self/task/${id}`);
}

/** Process and thread ids that are in use by somebody else, and remain so. */
export function takenIds(tasks: readonly SavedTask[]): Problem[] {
  const all = tasks.flatMap(idsOf);
  stepAside(all);
  if (!waitForTheDying(all)) return [];
  const problems: Problem[] = [];
  for (const task of tasks) {
    for (const id of idsOf(task)) {
      if (!isTaken(id)) continue;
      const isOwn = id === process.pid || isOwnThread(id);
      const who = isOwn ? "Floe itself" : commandOf(id);
      problems.push(
        new (isOwnThread(id) ? OwnThread : Refusal)(
          {
            code: "PID_TAKEN",
            process: { pid: task.pid, comm: task.comm },
            resource: id === task.pid ? `process id ${id}` : `thread id ${id}`,
            because: `it is in use by ${who}`,
            remedy: [
              isOwn ? "Run the same command again: it gets another number" : "Wait until that process has ended, or end it",
              "Restore inside a pid namespace of its own: unshare --pid --fork --mount-proc floe restore …",
            ],
          },
          "restore",
        ),
      );
    }
  }
  return problems;
}

function commandOf(id: number): string {
  try {
    return `"${readFileSync(`/proc/${id}/comm`, "utf8").trimEnd()}"`;
  } catch {
    return "another process";
  }
}
