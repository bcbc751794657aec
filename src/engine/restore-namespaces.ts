/**
 * Which namespaces a tree gets that are not Floe's: what the images say, against what can be made.
 *
 * Made with   unshare(CLONE_NEWPID) in the seed: the first process that it creates is number 1 of a new pid namespace
 */
import { Refusal } from "../errors.js";
import { inventoryEntry } from "../images/inventory.schema.js";
import type { DirectorySource } from "../images/source.js";
import { CLONE_NEWPID } from "../linux/namespaces.js";
import { SYS } from "../linux/syscalls.js";
import type { TaskKobjIdsEntry } from "../resources/tasks/core.schema.js";
import { Program } from "../target/program.js";
import { run } from "../target/run.js";
import type { TracedTask } from "../target/thread.js";
import type { Findings, SavedTask } from "./restore-load.js";

const INIT = 1;

/** Fields of ids-PID for namespaces that are not made, and what people call them. */
const NOT_MADE = {
  mnt_ns_id: "mount namespace",
  net_ns_id: "network namespace",
  uts_ns_id: "UTS namespace",
  user_ns_id: "user namespace",
  cgroup_ns_id: "cgroup namespace",
} as const satisfies Partial<Record<keyof TaskKobjIdsEntry, string>>;

/** Whether the tree has a pid namespace of its own. Adds what cannot be made to `findings`. */
export function hasOwnPids(images: DirectorySource, saved: readonly SavedTask[], findings: Findings): boolean {
  const { root_ids } = images.single("INVENTORY", [], inventoryEntry);
  for (const task of saved) findings.add(...notMade(task, root_ids));
  const root = saved[0];
  if (root?.living === undefined || !differs(root.living.ids.pid_ns_id, root_ids?.pid_ns_id)) return false;
  const members = saved.filter(({ living }) => living !== undefined && living.ids.pid_ns_id !== root.living?.ids.pid_ns_id);
  findings.add(...members.map((task) => refusal(task, "its pid namespace", "it is another one than that of the root of the tree")));
  if (root.pid !== INIT)
    findings.add(refusal(root, "its pid namespace", `its first process is not in the images: the root has number ${root.pid}`));
  return true;
}

/** Whether the tree has an IPC namespace of its own. Adds what cannot be made to `findings`. */
export function hasOwnIpc(images: DirectorySource, saved: readonly SavedTask[], findings: Findings): boolean {
  const { root_ids } = images.single("INVENTORY", [], inventoryEntry);
  const own = saved[0]?.living?.ids.ipc_ns_id;
  const others = saved.filter(({ living }) => living !== undefined && differs(living.ids.ipc_ns_id, own));
  findings.add(...others.map((task) => refusal(task, "its IPC namespace", "it is another one than that of the root of the tree")));
  return differs(own, root_ids?.ipc_ns_id);
}

function notMade(task: SavedTask, own: TaskKobjIdsEntry | undefined): Refusal[] {
  const { living } = task;
  if (living === undefined) return [];
  return Object.entries(NOT_MADE)
    .filter(([field]) => differs(living.ids[field as keyof typeof NOT_MADE], own?.[field as keyof typeof NOT_MADE]))
    .map(([, name]) => refusal(task, `its ${name}`, "it had one of its own, and those are not made yet"));
}

/** Old images do not tell all numbers. */
function differs(one: number | undefined, other: number | undefined): boolean {
  return one !== undefined && other !== undefined && one !== other;
}

function refusal(task: SavedTask, resource: string, because: string): Refusal {
  return new Refusal(
    {
      code: "NAMESPACE_NOT_CARRIED",
      process: { pid: task.pid, comm: task.comm },
      resource,
      because,
      remedy: ["Restore with the tool that made the images"],
    },
    "restore",
  );
}

/** What the seed creates from now on is in a new pid namespace, and its first child is that namespace's first process. */
export function givePids(seed: TracedTask): void {
  const program = new Program();
  program.call(SYS.unshare, CLONE_NEWPID).must("making a pid namespace");
  run(seed.leader, program);
}
