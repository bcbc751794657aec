/**
 * /proc/PID/cgroup, cgroups(7): the groups a process is in, one per hierarchy.
 */
import { decimal, procTextError, utf8 } from "./text.js";

/** Membership in one hierarchy. */
export interface CgroupMembership {
  /** 0 for cgroup v2. */
  readonly hierarchy: number;
  /** Controllers of a v1 hierarchy, or its name as in `name=systemd`; empty for v2. */
  readonly controllers: readonly string[];
  /** Path below the root of the hierarchy as this process's cgroup namespace shows it; may end in " (deleted)". */
  readonly path: string;
}

/** Takes the bytes of a cgroup file apart. */
export function parseCgroup(bytes: Buffer, path: string): CgroupMembership[] {
  const lines = bytes.toString("latin1").split("\n");
  if (lines.pop() !== "") throw procTextError(path, "it is cut off");
  return lines.map((line) => {
    // The path itself may hold colons.
    const first = line.indexOf(":");
    const second = line.indexOf(":", first + 1);
    if (first < 0 || second < 0) throw procTextError(path, `it has the line "${line.slice(0, 80)}"`);
    const controllers = line.slice(first + 1, second);
    return {
      hierarchy: decimal(line.slice(0, first), path),
      controllers: controllers === "" ? [] : controllers.split(","),
      path: utf8(line.slice(second + 1)),
    };
  });
}
