/**
 * An IPC namespace of the tree's own as a whole, in the order in which its parts are saved and made again; segments are saved with the
 * memory of the tasks (shm.ts).
 */
import { openSync } from "node:fs";
import { CLONE_NEWIPC } from "../../linux/namespaces.js";
import { SYS } from "../../linux/syscalls.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { DumpSession, Fd, RestoreSession } from "../part.js";
import { dumpQueues, restoreQueues, savedQueues } from "./msg.js";
import { hasOwnIpc, inTreesIpc, refuseMessageQueueFiles } from "./namespace.js";
import { dumpSemaphores, prepareUndo, restoreSemaphores, savedSets } from "./sem.js";
import { restoreSegments, savedSegments } from "./shm.js";
import { dumpLimits, liftLimits, restoreLimits, savedLimits } from "./sysctl.js";

/** Before the tree is frozen. */
export function prepareIpc(pids: readonly number[]): void {
  prepareUndo(pids);
}

/** Saves what is in the namespace besides segments; of another one, only what would be lost without a word is looked for. */
export function dumpIpc(session: DumpSession): void {
  const [root] = session.tasks;
  if (root === undefined) return;
  dumpSemaphores(session);
  if (!hasOwnIpc(session)) return;
  inTreesIpc(session, () => {
    refuseMessageQueueFiles(root, session);
    dumpLimits(session);
    dumpQueues(session);
  });
}

/** Looks through the images of an IPC namespace before anything is made. */
export function checkIpc(session: RestoreSession): void {
  savedLimits(session);
  savedQueues(session);
  savedSets(session);
  savedSegments(session);
}

/** Everything that the seed creates from now on is in a new IPC namespace; returns a descriptor of it. */
export function makeIpc({ seed }: RestoreSession): Fd {
  const program = new Program();
  program.call(SYS.unshare, CLONE_NEWIPC).must("making an IPC namespace");
  run(seed.leader, program);
  return openSync(`/proc/${seed.pid}/ns/ipc`, "r");
}

/** Fills the new namespace. */
export function restoreIpc(session: RestoreSession): void {
  session.inIpc(() => {
    liftLimits();
    restoreQueues(session);
    restoreSemaphores(session);
  });
  restoreSegments(session);
}

/** When every task has what it had of it. */
export function finishIpc(session: RestoreSession): void {
  if (session.hasOwnIpc) session.inIpc(() => restoreLimits(session));
}
