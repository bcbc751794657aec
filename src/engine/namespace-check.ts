/**
 * Namespaces: a tree that lives in others than Floe's own is refused, since they would have to be made again with all
 * that is in them. But for a pid namespace that is the tree's own, from its first process on, one of IPC, and one of clocks.
 */
import { Refusal } from "../errors.js";
import { readStatus } from "../linux/proc/read.js";
import { namespaceOf, ownNamespace } from "../resources/namespaces/ids.js";
import type { DumpTask } from "../resources/part.js";

/** Number of the first process of a pid namespace. */
const INIT = 1;

/** File names below /proc/PID/ns, and what people call them. */
const KINDS = [
  ["pid", "pid namespace"],
  ["mnt", "mount namespace"],
  ["net", "network namespace"],
  ["ipc", "IPC namespace"],
  ["uts", "UTS namespace"],
  ["user", "user namespace"],
  ["cgroup", "cgroup namespace"],
] as const;

/** Refusals for every namespace of `tasks` that is neither ours nor carried. */
export function foreignNamespaces(tasks: readonly DumpTask[]): Refusal[] {
  const own = new Map(KINDS.map(([file]) => [file, ownNamespace(file)]));
  const refusals = differentPids(tasks);
  if (refusals.length === 0 && tasks[0] !== undefined) own.set("pid", namespaceOf(tasks[0].traced, "pid"));
  if (tasks[0] !== undefined) own.set("ipc", namespaceOf(tasks[0].traced, "ipc"));
  return [...refusals, ...tasks.flatMap((task) => foreignOf(task, own)), ...differentForChildren(tasks), ...differentClocks(tasks)];
}

/** A tree is in our pid namespace, or it has one of its own, directly below ours, of which its root is the first process. */
function differentPids([root]: readonly DumpTask[]): Refusal[] {
  if (root === undefined || root.traced.isInOurPidNamespace) return [];
  if (root.pid !== INIT) {
    return [
      refusal(root, "its pid namespace", {
        because: `the root of the tree is not the first process of it, but number ${root.pid}`,
        remedy: ["Dump the whole namespace: name its first process", `Run Floe inside it: nsenter --target ${root.traced.pid} --pid …`],
      }),
    ];
  }
  if (root.status.nsPid.length === readStatus(process.pid).nsPid.length + 1) return [];
  return [
    refusal(root, "its pid namespace", {
      because: "there is another pid namespace between it and that of Floe",
      remedy: ["Run Floe in the pid namespace around it"],
    }),
  ];
}

function foreignOf(task: DumpTask, own: ReadonlyMap<string, string | undefined>): Refusal[] {
  return KINDS.filter(([file]) => namespaceOf(task.traced, file) !== own.get(file)).map(([file, name]) =>
    refusal(task, `its ${name}`, {
      because: "it is neither the one that Floe runs in nor one that is carried",
      remedy: [
        `Run Floe inside it: nsenter --target ${task.traced.pid} --${file === "mnt" ? "mount" : file} …`,
        "Dump a process that shares the namespaces of Floe",
      ],
    }),
  );
}

/** Children must be born into the pid namespace of their parent. */
function differentForChildren(tasks: readonly DumpTask[]): Refusal[] {
  return tasks
    .filter(({ traced }) => namespaceOf(traced, "pid_for_children") !== namespaceOf(traced, "pid"))
    .map((task) =>
      refusal(task, "the pid namespace for its children", {
        because: "it is not the one that the process is in itself",
        remedy: ["Dump a process that has not called unshare(CLONE_NEWPID) or setns(2), or one inside the new namespace"],
      }),
    );
}

/** A tree gets one time namespace at most: that of its root, also for children to come. */
function differentClocks(tasks: readonly DumpTask[]): Refusal[] {
  const first = tasks[0] === undefined ? undefined : namespaceOf(tasks[0].traced, "time");
  return tasks.flatMap((task) => {
    const remedy: [string] = ["Dump the processes of one time namespace at a time"];
    if (namespaceOf(task.traced, "time") !== first)
      return [refusal(task, "its time namespace", { because: "it is another one than that of the root of the tree", remedy })];
    if (namespaceOf(task.traced, "time_for_children") !== first)
      return [refusal(task, "the time namespace for its children", { because: "it is not the one that the process is in itself", remedy })];
    return [];
  });
}

function refusal(task: DumpTask, resource: string, why: { because: string; remedy: readonly [string, ...string[]] }): Refusal {
  return new Refusal({ code: "NAMESPACE_NOT_CARRIED", process: { pid: task.traced.pid, comm: task.comm }, resource, ...why });
}
