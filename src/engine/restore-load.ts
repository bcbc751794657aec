/**
 * Reading an image directory before anything is made: every message that a restore needs, and everything wrong with it.
 */
import { ImageError, KernelError, Problems, Refusal, UsageError } from "../errors.js";
import { inventoryEntry } from "../images/inventory.schema.js";
import { imageFileName } from "../images/kinds.js";
import type { DirectorySource } from "../images/source.js";
import type { FileTable } from "../resources/files/table.js";
import { fdinfoEntry } from "../resources/files/table.schema.js";
import { type FsEntry, fsEntry } from "../resources/files/working-dir.schema.js";
import { type SavedSpace, readSpace } from "../resources/memory/saved-space.js";
import type { Problem } from "../resources/part.js";
import { type CoreEntry, coreEntry, type TaskKobjIdsEntry, taskKobjIdsEntry } from "../resources/tasks/core.schema.js";
import { hasEnded } from "../resources/tasks/dead-leader.js";
import { checkTree } from "../resources/tasks/tree-entries.js";
import { type PstreeEntry, pstreeEntry } from "../resources/tasks/tree.schema.js";
import { TASK_STATE } from "./collect.js";

/** Image versions that are understood: CRTOOLS_IMAGES_V1 and V1_1. */
const VERSIONS = [1, 2];
const MARCH_X86_64 = 1;

/** One process as the images have it. A dead one has nothing but its core. */
export interface SavedTask {
  readonly pid: number;
  readonly comm: string;
  readonly tree: PstreeEntry;
  readonly core: CoreEntry;
  readonly state: number;
  readonly living: SavedLiving | undefined;
}

/** What only a process that lives has. */
export interface SavedLiving {
  readonly threads: readonly { readonly tid: number; readonly core: CoreEntry }[];
  readonly ids: TaskKobjIdsEntry;
  readonly space: SavedSpace;
  readonly table: FileTable;
  readonly fs: FsEntry;
}

/** Collects problems instead of stopping at the first. */
export class Findings {
  readonly #problems: Problem[] = [];

  add(...problems: readonly Problem[]): void {
    this.#problems.push(...problems);
  }

  /** What `look` returns; an error of one of our kinds is noted down and gives undefined. */
  try<T>(look: () => T): T | undefined {
    try {
      return look();
    } catch (error) {
      if (error instanceof Problems) this.#problems.push(...error.problems);
      else if (error instanceof ImageError || error instanceof Refusal || error instanceof UsageError || error instanceof KernelError)
        this.#problems.push(error);
      else throw error;
      return undefined;
    }
  }

  /** Throws what was found, all at once. */
  throwAny(): void {
    const distinct = [...new Map(this.#problems.map((p) => [p.message, p])).values()];
    if (distinct.length === 1 && distinct[0] !== undefined) throw distinct[0];
    if (distinct.length > 1) throw new Problems(distinct);
  }
}

/** Reads all processes. Throws what is wrong with the images as such. */
export function loadTasks(images: DirectorySource, isLazy = false): SavedTask[] {
  const findings = new Findings();
  checkInventory(images);
  const tree = images.records("PSTREE", [], pstreeEntry).map((r) => r.value);
  const dead = new Set<number>();
  const owners = new Set<number>();
  const tasks = tree.map((entry) => findings.try(() => loadTask(images, entry, { dead, owners, isLazy })));
  // A dead process has no threads of its own any more, whatever its entry says of them.
  findings.add(...checkTree(tree.map((e) => (dead.has(e.pid) ? { ...e, threads: [e.pid] } : e))));
  findings.throwAny();
  return tasks.filter((t) => t !== undefined);
}

/** Throws where the images are of a version that is not understood. */
export function checkInventory(images: DirectorySource): void {
  const { img_version } = images.single("INVENTORY", [], inventoryEntry);
  if (VERSIONS.includes(img_version)) return;
  throw new ImageError({
    code: "IMAGE_OTHER_VERSION",
    place: { file: imageFileName("INVENTORY", []), message: "inventory_entry", field: "img_version" },
    because: `the images have version ${img_version}; versions ${VERSIONS.join(" and ")} are understood`,
    remedy: ["Restore with the tool that made the images", "Use a newer version of Floe"],
  });
}

/** `dead`: processes found to be so. `owners`: address spaces that a process before has the pages of. */
function loadTask(
  images: DirectorySource,
  tree: PstreeEntry,
  { dead, owners, isLazy }: { dead: Set<number>; owners: Set<number>; isLazy: boolean },
): SavedTask {
  const { pid } = tree;
  const core = images.single("CORE", [pid], coreEntry);
  const { tc } = core;
  if (tc === undefined) throw badCore(pid, "tc", "the message about the process is missing");
  const task = { pid, comm: tc.comm, tree, core, state: tc.task_state };
  if (tc.task_state === TASK_STATE.DEAD) {
    dead.add(pid);
    return { ...task, living: undefined };
  }
  if (tc.task_state !== TASK_STATE.ALIVE && tc.task_state !== TASK_STATE.STOPPED)
    throw badCore(pid, "tc", `task state ${tc.task_state} is unknown`);
  const threads = tree.threads.map((tid) => ({ tid, core: tid === pid ? core : images.single("CORE", [tid], coreEntry) }));
  for (const thread of threads) checkCore(thread.tid, thread.core);
  const leader = threads.findIndex((t) => t.tid === pid);
  if (leader < 0) throw badCore(pid, "tc", "the process has no leading thread");
  threads.unshift(...threads.splice(leader, 1));
  const ids = core.ids ?? images.single("IDS", [pid], taskKobjIdsEntry);
  // A process without descriptors or pages has these images too: one that is missing must not pass for an empty one.
  images.mustExist("FDINFO", [ids.files_id]);
  if (!owners.has(ids.vm_id)) images.mustExist("PAGEMAP", [pid]);
  owners.add(ids.vm_id);
  const table = { id: ids.files_id, entries: images.records("FDINFO", [ids.files_id], fdinfoEntry).map((r) => r.value) };
  return {
    ...task,
    living: { threads, ids, table, space: readSpace(images, task, isLazy), fs: images.single("FS", [pid], fsEntry) },
  };
}

function checkCore(tid: number, core: CoreEntry): void {
  if (core.mtype !== MARCH_X86_64) throw badCore(tid, "mtype", `it is of another processor (${core.mtype})`);
  if (hasEnded(core)) return;
  if (core.thread_info?.gpregs === undefined || core.thread_info.fpregs === undefined)
    throw badCore(tid, "thread_info", "registers are missing");
  if (core.thread_core === undefined) throw badCore(tid, "thread_core", "the message about the thread is missing");
}

function badCore(tid: number, field: string, because: string): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_CORE",
    place: { file: imageFileName("CORE", [tid]), message: "core_entry", field },
    because,
    remedy: ["Use an intact copy of the images directory", "Dump the process again"],
  });
}
