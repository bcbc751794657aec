/**
 * Numbers for the namespaces of a process (fields of ids-PID): equal numbers mean the same namespace.
 */
import { readlinkSync } from "node:fs";

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

/** The namespace numbers of process `pid`; the first process asked about gets the lowest ones. */
export function namespaceIds(pid: number): NamespaceIds {
  const out: Partial<NamespaceIds> = {};
  for (const [name, field] of Object.entries(FIELDS)) {
    const link = readlinkSync(`/proc/${pid}/ns/${name}`);
    let id = numbers.get(link);
    if (id === undefined) {
      id = numbers.size + 1;
      numbers.set(link, id);
    }
    out[field] = id;
  }
  return out as NamespaceIds;
}
