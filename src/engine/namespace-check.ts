/**
 * Namespaces: a tree that lives in others than Floe's own is refused, since they would have to be made again with all
 * that is in them.
 */
import { readlinkSync } from "node:fs";
import { Refusal } from "../errors.js";
import type { DumpTask } from "../resources/part.js";

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

/** Refusals for every namespace of `tasks` that is not ours; clocks may be others, but the same for all. */
export function foreignNamespaces(tasks: readonly DumpTask[]): Refusal[] {
  const own = new Map(KINDS.map(([file]) => [file, namespaceOf("self", file)]));
  return [...tasks.flatMap((task) => foreignOf(task, own)), ...differentClocks(tasks)];
}

function foreignOf(task: DumpTask, own: ReadonlyMap<string, string | undefined>): Refusal[] {
  return KINDS.filter(([file]) => namespaceOf(task.traced.pid, file) !== own.get(file)).map(([file, name]) =>
    refusal(task, `its ${name}`, {
      because: "it is not the one that Floe runs in, and namespaces are not carried yet",
      remedy: [
        `Run Floe inside it: nsenter --target ${task.traced.pid} --${file === "mnt" ? "mount" : file} …`,
        "Dump a process that shares the namespaces of Floe",
      ],
    }),
  );
}

/** A tree gets one time namespace at most: that of its root, also for children to come. */
function differentClocks(tasks: readonly DumpTask[]): Refusal[] {
  const first = tasks[0] === undefined ? undefined : namespaceOf(tasks[0].traced.pid, "time");
  return tasks.flatMap((task) => {
    const remedy: [string] = ["Dump the processes of one time namespace at a time"];
    if (namespaceOf(task.traced.pid, "time") !== first)
      return [refusal(task, "its time namespace", { because: "it is another one than that of the root of the tree", remedy })];
    if (namespaceOf(task.traced.pid, "time_for_children") !== first)
      return [refusal(task, "the time namespace for its children", { because: "it is not the one that the process is in itself", remedy })];
    return [];
  });
}

function refusal(task: DumpTask, resource: string, why: { because: string; remedy: readonly [string, ...string[]] }): Refusal {
  return new Refusal({ code: "NAMESPACE_NOT_CARRIED", process: { pid: task.traced.pid, comm: task.comm }, resource, ...why });
}

/** The link's text; undefined where the kernel has no such namespace. */
function namespaceOf(pid: number | "self", file: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${file}`);
  } catch {
    return undefined;
  }
}
