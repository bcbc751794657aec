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
  ["time", "time namespace"],
  ["cgroup", "cgroup namespace"],
] as const;

/** Refusals for every namespace of `tasks` that is not ours. */
export function foreignNamespaces(tasks: readonly DumpTask[]): Refusal[] {
  const own = new Map(KINDS.map(([file]) => [file, namespaceOf("self", file)]));
  return tasks.flatMap((task) =>
    KINDS.filter(([file]) => namespaceOf(task.traced.pid, file) !== own.get(file)).map(
      ([file, name]) =>
        new Refusal({
          code: "NAMESPACE_NOT_CARRIED",
          process: { pid: task.traced.pid, comm: task.comm },
          resource: `its ${name}`,
          because: "it is not the one that Floe runs in, and namespaces are not carried yet",
          remedy: [
            `Run Floe inside it: nsenter --target ${task.traced.pid} --${file === "mnt" ? "mount" : file} …`,
            "Dump a process that shares the namespaces of Floe",
          ],
        }),
    ),
  );
}

/** The link's text; undefined where the kernel has no such namespace. */
function namespaceOf(pid: number | "self", file: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${file}`);
  } catch {
    return undefined;
  }
}
