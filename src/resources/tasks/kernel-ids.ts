/**
 * Which objects tasks share: address space, descriptor table, fs struct, signal handlers (ids-PID).
 *
 * Read from   kcmp(2) between pairs of tasks: it orders objects, so that a tree of n tasks needs n log n comparisons, or n
 *             where the order was found before the freeze and still holds
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

type Kind = (typeof KINDS)[number][0];

/** For each kind the processes by their objects, in the kernel's order; those of one group have the same object. */
export type KernelOrder = Readonly<Record<Kind, readonly (readonly number[])[]>>;

/** The order of the objects of `pids`; undefined when one of them ends meanwhile. */
export function kernelOrder(pids: readonly number[]): KernelOrder | undefined {
  try {
    return Object.fromEntries(KINDS.map(([name, kind]) => [name, sorted(kind, pids)])) as unknown as KernelOrder;
  } catch {
    return undefined;
  }
}

function sorted(kind: number, pids: readonly number[]): number[][] {
  const groups: number[][] = [];
  for (const pid of pids) {
    let low = 0;
    let high = groups.length;
    let same: number[] | undefined;
    while (low < high && same === undefined) {
      const middle = (low + high) >> 1;
      const group = groups[middle] as number[];
      const order = kcmp(kind, pid, group[0] as number);
      if (order === 0) same = group;
      else if (order < 0) high = middle;
      else low = middle + 1;
    }
    if (same === undefined) groups.splice(low, 0, [pid]);
    else same.push(pid);
  }
  return groups;
}

/** Whether `groups` hold just `pids` and still are in order: then each is the only one with its object. */
function isStill(kind: number, groups: readonly (readonly number[])[], pids: ReadonlySet<number>): boolean {
  let members = 0;
  for (const group of groups) {
    members += group.length;
    if (!group.every((pid) => pids.has(pid))) return false;
  }
  if (members !== pids.size) return false;
  return groups.every(([first = 0, ...others], i) => {
    const next = groups[i + 1]?.[0];
    return (next === undefined || kcmp(kind, first, next) < 0) && others.every((pid) => kcmp(kind, first, pid) === 0);
  });
}

/** Gives every process of `pids` (as Floe sees them) its object numbers, from `first` on. `before`: the order some time ago. */
export function kernelIds(pids: readonly number[], first: number, before?: KernelOrder): Map<number, KernelIds> {
  const ids = new Map(pids.map((pid) => [pid, { vm: 0, files: 0, fs: 0, sighand: 0 }]));
  const all = new Set(pids);
  for (const [name, kind] of KINDS) {
    const known = before?.[name];
    const groups = known !== undefined && isStill(kind, known, all) ? known : sorted(kind, pids);
    const groupOf = new Map(groups.flatMap((group) => group.map((pid) => [pid, group] as const)));
    const numbers = new Map<readonly number[] | undefined, number>();
    for (const pid of pids) {
      const group = groupOf.get(pid);
      const number = numbers.get(group) ?? first + numbers.size;
      numbers.set(group, number);
      const entry = ids.get(pid);
      if (entry !== undefined) entry[name] = number;
    }
  }
  return ids;
}
