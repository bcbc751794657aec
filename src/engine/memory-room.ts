/**
 * How much more memory processes may take before the kernel kills somebody for it.
 *
 * Read from  /proc/meminfo, and the limits of the control groups of both versions
 */
import { readFileSync } from "node:fs";

const MOUNTS = "/sys/fs/cgroup";

/** The least that is left for any of `pids`. What cannot be read is no limit. */
export function memoryRoomBytes(pids: readonly number[]): number {
  return Math.min(availableBytes(), ...new Set(pids.flatMap((pid) => groupsOf(pid).map(roomOfGroup))));
}

function availableBytes(): number {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(read("/proc/meminfo") ?? "")?.[1];
  return kib === undefined ? Number.POSITIVE_INFINITY : Number(kib) * 1024;
}

interface Group {
  readonly path: string;
  readonly limit: string;
  readonly used: string;
}

/** The groups a process is in, up to the root, as far as they limit memory. */
function groupsOf(pid: number): Group[] {
  const groups: Group[] = [];
  for (const line of (read(`/proc/${pid}/cgroup`) ?? "").split("\n")) {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers !== "" && !controllers.split(",").includes("memory")) continue;
    const isOld = controllers !== "";
    for (let at = path; at !== ""; at = at.slice(0, at.lastIndexOf("/"))) {
      if (isOld) groups.push({ path: `${MOUNTS}/memory${at}`, limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes" });
      else groups.push({ path: `${MOUNTS}${at}`, limit: "memory.max", used: "memory.current" });
    }
  }
  return groups;
}

function roomOfGroup({ path, limit, used }: Group): number {
  const most = Number.parseInt(read(`${path}/${limit}`) ?? "", 10);
  const now = Number.parseInt(read(`${path}/${used}`) ?? "", 10);
  return Number.isNaN(most) || Number.isNaN(now) ? Number.POSITIVE_INFINITY : Math.max(0, most - now);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
