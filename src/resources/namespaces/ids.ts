/**
 * Numbers for the namespaces of a process (fields of ids-PID): equal numbers mean the same namespace.
 */
import { readlinkSync } from "node:fs";
import type { TracedTask } from "../../target/thread.js";

const FIELDS = {
  pid: "pid_ns_id",
  net: "net_ns_id",
  ipc: "ipc_ns_id",
  uts: "uts_ns_id",
  mnt: "mnt_ns_id",
  user: "user_ns_id",
  cgroup: "cgroup_ns_id",
  time: "time_ns_id",
} as const;

type NamespaceIds = { [K in (typeof FIELDS)[keyof typeof FIELDS]]: number };

const numbers = new Map<string, number>();

const linksOf = new WeakMap<TracedTask, Map<string, string | undefined>>();

/** The link of a namespace of a frozen process, read once; undefined where the kernel has no such namespace. */
export function namespaceOf(task: TracedTask, name: string): string | undefined {
  let links = linksOf.get(task);
  if (links === undefined) {
    links = new Map();
    linksOf.set(task, links);
  }
  if (!links.has(name)) links.set(name, readLink(task.pid, name));
  return links.get(name);
}

/**
 * Tells of tasks that stand still which of them are in the same namespaces, by pid: equal for those that are. They are asked once for
 * all of them.
 */
export function noteSameNamespaces(tasks: readonly TracedTask[], same: ReadonlyMap<number, string>): void {
  const linksOfAll = new Map<string, Map<string, string | undefined>>();
  for (const task of tasks) {
    const key = task.hasLostLeader ? undefined : same.get(task.pid);
    if (key === undefined || linksOf.has(task)) continue;
    const links = linksOfAll.get(key) ?? new Map<string, string | undefined>();
    linksOfAll.set(key, links);
    linksOf.set(task, links);
  }
}

function readLink(pid: number | "self", name: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${name}`);
  } catch {
    return undefined;
  }
}

const own = new Map<string, string | undefined>();

/** The same of Floe itself, which stays where it is. */
export function ownNamespace(name: string): string | undefined {
  if (!own.has(name)) own.set(name, readLink("self", name));
  return own.get(name);
}

/** The namespace numbers of a frozen process, of any other by its pid, or our own; the first process asked about gets the lowest ones. */
export function namespaceIds(task: TracedTask | number | "self"): NamespaceIds {
  const out: Partial<NamespaceIds> = {};
  for (const [name, field] of Object.entries(FIELDS)) {
    const link = (typeof task === "object" ? namespaceOf(task, name) : readLink(task, name)) ?? "";
    let id = numbers.get(link);
    if (id === undefined) {
      id = numbers.size + 1;
      numbers.set(link, id);
    }
    out[field] = id;
  }
  return out as NamespaceIds;
}
