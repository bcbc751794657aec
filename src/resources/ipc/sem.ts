/**
 * System V semaphores of the tree's own IPC namespace, and what semop(2) is to undo for each process (SEM_UNDO).
 *
 * Read from   /proc/sysvipc/sem, semctl(GETALL); what is to be undone from the kernel's memory, where BTF and BPF allow it
 * Made with   semget(2) with the number asked for by kernel.sem_next_id, semctl(SETALL, IPC_SET); semop(2) in each process
 * Refused     what is to be undone in a namespace that is not the tree's own: that would happen when the tree dies
 *
 * Who changed them last, and when, is not carried: no call sets it.
 */
import { ImageError, Refusal } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import { KernelSemaphores, type Undo } from "../../linux/kernel-semaphores.js";
import { inIpcNamespace } from "../../linux/namespaces.js";
import { SYS } from "../../linux/syscalls.js";
import { IPC_NOWAIT, setNextId } from "../../linux/sysv-objects.js";
import {
  MOST_VALUE,
  SEM_UNDO,
  type SemaphoreSet,
  makeSemaphoreSet,
  readSemaphoreSets,
  readSemaphores,
  setSemaphoreOwner,
  writeSemaphores,
} from "../../linux/sysv-semaphores.js";
import type { DumpSession, DumpTask, RestoreSession, ThreadPart } from "../part.js";
import { hasOwnIpc, inTreesIpc, ipcId, savedIpcIds } from "./namespace.js";
import { type FloeSemUndo, type IpcSemEntry, ipcSemEntry } from "./sem.schema.js";

const RWX = 0o777;
const VALUE_BYTES = 2;
const ALIGNMENT = 8;
const SEMBUF_BYTES = 6;

const padded = (bytes: number): number => (bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);

let kernel: KernelSemaphores | undefined;
let wasTried = false;

/** Gets ready, some 30 ms long, if there are semaphores that the processes may have changed. */
export function prepareUndo(pids: readonly number[]): void {
  if (wasTried || pids[0] === undefined || !hasSemaphores(pids[0])) return;
  wasTried = true;
  kernel = KernelSemaphores.open();
}

function hasSemaphores(pid: number): boolean {
  try {
    return inIpcNamespace(`/proc/${pid}/ns/ipc`, readSemaphoreSets).length > 0;
  } catch {
    return false; // it has ended, or there are none
  }
}

/** Saves all sets of an IPC namespace that is the tree's own. */
export function dumpSemaphores(session: DumpSession): void {
  const sets = inTreesIpc(session, readSemaphoreSets);
  if (sets.length === 0) return;
  const undone = findUndo(sets, session);
  if (!hasOwnIpc(session)) {
    for (const { task, undo } of undone) session.refuse(undoneOutside(task, undo));
    return;
  }
  const namespace = ipcId(session);
  const all = inTreesIpc(session, () => sets.map((set) => ({ ...set, values: readSemaphores(set.id, set.semaphores) })));
  for (const { key, id, uid, gid, cuid, cgid, mode, semaphores, values } of all) {
    const value: IpcSemEntry = {
      desc: { key, uid, gid, cuid, cgid, mode: mode & RWX, id },
      nsems: semaphores,
      undo: undone
        .filter(({ undo }) => undo.set === id)
        .map(({ task, undo }) => ({ pid: task.pid, semaphore: undo.semaphore, by: undo.by })),
    };
    const extra = Buffer.alloc(padded(values.length));
    extra.set(values);
    session.later(() => session.images.append("IPCNS_SEM", [namespace], { type: ipcSemEntry, value, extra }));
  }
}

/** What is to be undone at the end of each process. */
function findUndo(sets: readonly SemaphoreSet[], session: DumpSession): { task: DumpTask; undo: Undo }[] {
  if (kernel === undefined) return [];
  const sizes = new Map(sets.map(({ id, semaphores }) => [id, semaphores]));
  const found: { task: DumpTask; undo: Undo }[] = [];
  const owners = new Map<bigint, DumpTask>();
  for (const task of session.tasks) {
    for (const [index, thread] of task.traced.threads.entries()) {
      const list = kernel.listOf(`/proc/${task.traced.pid}/task/${thread.tid}`);
      if (list === undefined || owners.get(list) === task) continue;
      const undone = kernel.undone(list, sizes);
      if (undone.length === 0) continue;
      // The leader's list is that of all threads that are made.
      if (index > 0 || owners.has(list)) session.refuse(sharedOtherwise(task));
      owners.set(list, task);
      for (const undo of undone) found.push({ task, undo });
    }
  }
  return found;
}

function refusal(task: DumpTask, resource: string, why: { because: string; remedy: readonly [string, ...string[]] }): Refusal {
  return new Refusal({ code: "IPC_NOT_CARRIED", process: { pid: task.traced.pid, comm: task.comm }, resource, ...why });
}

function undoneOutside(task: DumpTask, { set, semaphore, by }: Undo): Refusal {
  return refusal(task, `semaphore ${semaphore} of set ${set}`, {
    because: `the kernel adds ${by} to it when the process ends (SEM_UNDO), and others may use that before the process is back`,
    remedy: ["Dump the process when it holds no semaphore", "Run it in an IPC namespace of its own: unshare --ipc --fork …"],
  });
}

function sharedOtherwise(task: DumpTask): Refusal {
  return refusal(task, "what semop(2) is to undo", {
    because: "it is not that of exactly one process with all its threads (CLONE_SYSVSEM)",
    remedy: ["Dump the process when it holds no semaphore"],
  });
}

/** Makes all sets. Called inside of the namespace. */
export function restoreSemaphores(session: RestoreSession): void {
  for (const { value, extra } of savedSets(session)) {
    const { desc, nsems } = value;
    setNextId("sem", desc.id);
    const id = makeSemaphoreSet(desc.key, nsems, { mode: desc.mode & RWX, as: { uid: desc.cuid, gid: desc.cgid } });
    if (id !== desc.id) throw new Error(`semaphore set ${desc.id} cannot have its number again: it would be ${id}`);
    writeSemaphores(id, extra.subarray(0, nsems * VALUE_BYTES));
    setSemaphoreOwner(id, { uid: desc.uid, gid: desc.gid, mode: desc.mode & RWX });
  }
}

/** Sets in the images, checked. */
export function savedSets(session: RestoreSession) {
  return savedIpcIds(session).flatMap((id) => {
    const records = session.images.records("IPCNS_SEM", [id], ipcSemEntry, ({ nsems }) => padded(nsems * VALUE_BYTES));
    const isBad = ({ semaphore, by }: FloeSemUndo, { nsems }: IpcSemEntry) => semaphore >= nsems || Math.abs(by) > MOST_VALUE;
    if (records.some(({ value }) => value.undo.some((undo) => isBad(undo, value)))) {
      throw new ImageError({
        code: "IMAGE_BAD_VALUE",
        place: { file: imageFileName("IPCNS_SEM", [id]), message: "ipc_sem_entry", field: "undo" },
        because: "no semaphore can be changed like that",
        remedy: ["Use an intact copy of the images directory", "Dump the process again"],
      });
    }
    return records;
  });
}

type SavedUndo = FloeSemUndo & { readonly set: number; readonly value: number };

const undoOf = new WeakMap<RestoreSession, readonly SavedUndo[]>();

function savedUndo(session: RestoreSession, pid: number): readonly SavedUndo[] {
  let all = undoOf.get(session);
  if (all === undefined) {
    all = savedSets(session).flatMap(({ value, extra }) =>
      value.undo.map((undo) => ({ ...undo, set: value.desc.id, value: extra.readUInt16LE(undo.semaphore * VALUE_BYTES) })),
    );
    undoOf.set(session, all);
  }
  return all.filter((undo) => undo.pid === pid);
}

/** So much fits in on one side or the other, whatever the value is. */
const MOST_AT_ONCE = (MOST_VALUE + 1) / 2;

/**
 * Operations of one call, which the kernel carries out together or not at all, and which leave a semaphore at `value`: it is changed with
 * SEM_UNDO, and back without; first upwards or first downwards, as there is room.
 */
export function undoOperations({ semaphore, by }: Pick<FloeSemUndo, "semaphore" | "by">, value: number): Buffer {
  const parts: Buffer[] = [];
  for (let left = Math.abs(by); left > 0; left -= Math.min(left, MOST_AT_ONCE)) {
    const step = Math.min(left, MOST_AT_ONCE);
    const isUpFirst = value + step <= MOST_VALUE;
    for (const isUp of [isUpFirst, !isUpFirst]) {
      // What took from the semaphore is undone by adding.
      const isUndone = isUp === by < 0;
      const one = Buffer.alloc(SEMBUF_BYTES);
      one.writeUInt16LE(semaphore, 0);
      one.writeInt16LE(isUp ? step : -step, 2);
      one.writeInt16LE(IPC_NOWAIT | (isUndone ? SEM_UNDO : 0), 4);
      parts.push(one);
    }
  }
  return Buffer.concat(parts);
}

/** What is to be undone, when a process has its semaphores. */
export const semaphoreUndo: ThreadPart = {
  name: "ipc/sem",
  rows: ["ns.ipc-sem"],
  stage: "process",
  restore({ session, task, isLeader, program }) {
    if (!isLeader || !session.hasOwnIpc) return undefined;
    for (const { set, value, ...undo } of savedUndo(session, task.pid)) {
      const operations = program.bytes(undoOperations(undo, value));
      program
        .call(SYS.semop, set, operations, operations.content.length / SEMBUF_BYTES)
        .must(`setting what is to be undone of semaphore ${undo.semaphore} of set ${set}`);
    }
    return undefined;
  },
};
