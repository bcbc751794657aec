/**
 * The IPC namespace that a tree has for itself, ipc_namespaces(7): saved as a whole, and made again with all that was in it.
 *
 * Read from   inside of it: Floe's thread goes there by setns(2)
 * Made with   unshare(CLONE_NEWIPC) in the seed; what belongs into it is made from inside again
 * Refused     POSIX message queues; segments that would not survive being looked at
 *
 * Without one of its own a tree lives with what is in the namespace of Floe, of which only attached segments are saved (shm.ts).
 */
import { closeSync, readdirSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { readLimit } from "../../linux/ipc-limits.js";
import { inIpcNamespace } from "../../linux/namespaces.js";
import { messageQueueFiles } from "../../linux/private-tmpfs.js";
import { type Segment, readSegments } from "../../linux/sysv.js";
import { namespaceIds, namespaceOf, ownNamespace } from "../namespaces/ids.js";
import type { DumpSession, DumpTask, RestoreSession } from "../part.js";
import { taskKobjIdsEntry } from "../tasks/core.schema.js";

/** Whether the tree is in an IPC namespace that is not ours. All its tasks are in that of the first. */
export function hasOwnIpc({ tasks: [root] }: Pick<DumpSession, "tasks">): boolean {
  return root !== undefined && namespaceOf(root.traced, "ipc") !== ownNamespace("ipc");
}

/** Does something in the IPC namespace of a frozen tree. */
export function inTreesIpc<T>(session: Pick<DumpSession, "tasks">, action: () => T): T {
  const [root] = session.tasks;
  if (root === undefined || !hasOwnIpc(session)) return action();
  return inIpcNamespace(`/proc/${root.traced.pid}/ns/ipc`, action);
}

/** Number of the tree's IPC namespace in the names of images. */
export function ipcId({ tasks: [root] }: Pick<DumpSession, "tasks">): number {
  return root === undefined ? 0 : namespaceIds(root.traced).ipc_ns_id;
}

const tables = new WeakMap<object, readonly Segment[]>();

/** Segments of the tree's IPC namespace, read once. */
export function segmentsOfTree(session: Pick<DumpSession, "tasks">): readonly Segment[] {
  let found = tables.get(session);
  if (found === undefined) {
    found = inTreesIpc(session, readSegments);
    tables.set(session, found);
  }
  return found;
}

/** Whether a segment of the tree's namespace goes as soon as nobody has it attached any more. */
export function destroysUnattached(session: Pick<DumpSession, "tasks">): boolean {
  return inTreesIpc(session, () => readLimit("kernel/shm_rmid_forced"))?.[0] === 1n;
}

/** Message queues of mq_overview(7): what is in them cannot be read without taking it out. Called inside of the namespace. */
export function refuseMessageQueueFiles(root: DumpTask, session: DumpSession): void {
  const fd = messageQueueFiles();
  if (fd === undefined) return;
  try {
    for (const name of readdirSync(`/proc/self/fd/${fd}`)) {
      session.refuse(
        new Refusal({
          code: "IPC_NOT_CARRIED",
          process: { pid: root.traced.pid, comm: root.comm },
          resource: `the POSIX message queue "/${name}" of its IPC namespace`,
          because: "message queues of this kind are not carried",
          remedy: ["Let the program remove the queue (mq_unlink) before the dump", "Run Floe in the IPC namespace of the process"],
        }),
      );
    }
  } finally {
    closeSync(fd);
  }
}

const numbers = new WeakMap<RestoreSession, readonly number[]>();

/** Numbers of IPC namespaces in the images. */
export function savedIpcIds(session: RestoreSession): readonly number[] {
  let found = numbers.get(session);
  if (found === undefined) {
    const ids = session.tasks.map(({ pid, core }) => (core.ids ?? session.images.single("IDS", [pid], taskKobjIdsEntry)).ipc_ns_id);
    found = [...new Set(ids)].filter((id) => id !== undefined);
    numbers.set(session, found);
  }
  return found;
}
