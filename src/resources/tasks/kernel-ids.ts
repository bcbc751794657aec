/**
 * Which objects tasks share: address space, descriptor table, fs struct, signal handlers (ids-PID).
 *
 * Read from   kcmp(2) between pairs of tasks: it orders objects, so that a tree of n tasks needs n log n comparisons
 * Made with   the CLONE_VM, CLONE_FILES, CLONE_FS and CLONE_SIGHAND flags of clone3(2)
 */
import { KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_VM, kcmp } from "../../linux/process.js";

/** Numbers of the four objects of a task; equal numbers of one kind mean the same object. */
export interface KernelIds {
  vm: number;
  files: number;
  fs: number;
  sighand: number;
}

const KINDS = [
  ["vm", KCMP_VM],
  ["files", KCMP_FILES],
  ["fs", KCMP_FS],
  ["sighand", KCMP_SIGHAND],
] as const;

/** Gives every process of `pids` (as Floe sees them) its object numbers, from `first` on. */
export function kernelIds(pids: readonly number[], first: number): Map<number, KernelIds> {
  const ids = new Map(pids.map((pid) => [pid, { vm: 0, files: 0, fs: 0, sighand: 0 }]));
  for (const [name, kind] of KINDS) {
    const sorted: { pid: number; id: number }[] = [];
    let next = first;
    for (const pid of pids) {
      let low = 0;
      let high = sorted.length;
      let same: number | undefined;
      while (low < high && same === undefined) {
        const middle = (low + high) >> 1;
        const at = sorted[middle];
        if (at === undefined) break;
        const order = kcmp(kind, pid, at.pid);
        if (order === 0) same = at.id;
        else if (order < 0) high = middle;
        else low = middle + 1;
      }
      const id = same ?? next++;
      if (same === undefined) sorted.splice(low, 0, { pid, id });
      const entry = ids.get(pid);
      if (entry !== undefined) entry[name] = id;
    }
  }
  return ids;
}
