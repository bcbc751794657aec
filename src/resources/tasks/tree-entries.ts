/**
 * Process tree entries of an image, which nobody vouches for: are they a tree at all?
 *
 * Checked  one root; every parent present; no cycle; pids in the kernel's range; no number used twice, be it as pid or
 *          as thread id. Whether sessions and groups can be is the planner's question (tree-plan.ts).
 */
import { ImageError, Problems } from "../../errors.js";

export interface TreeEntry {
  readonly pid: number;
  readonly ppid: number;
  readonly threads: readonly number[];
}

/** PID_MAX_LIMIT of include/linux/threads.h on 64-bit machines: pids are below it. */
export const PID_MAX_LIMIT = 4 * 1024 * 1024;

const REMEDY = ["Use an intact copy of the images directory", "Dump the processes again"];

type Report = (field: string, because: string) => void;

/** Everything wrong with the entries as a tree; empty when nothing is. */
export function checkTree(entries: readonly TreeEntry[], file = "pstree.img"): readonly ImageError[] {
  const errors: ImageError[] = [];
  const report: Report = (field, because) => {
    errors.push(new ImageError({ code: "IMAGE_BAD_TREE", place: { file, message: "pstree_entry", field }, because, remedy: REMEDY }));
  };
  if (entries.length === 0) report("pid", "there is no process in it");
  const parents = checkNumbers(entries, report);
  checkRoots(entries, parents, report);
  checkCycles(parents, report);
  return errors;
}

/** Ranges and double use; returns pid -> ppid of the entries whose pid is good. */
function checkNumbers(entries: readonly TreeEntry[], report: Report): Map<number, number> {
  const parents = new Map<number, number>();
  const owner = new Map<number, number>();
  const valid = (id: number): boolean => Number.isInteger(id) && id > 0 && id < PID_MAX_LIMIT;
  for (const entry of entries) {
    if (!valid(entry.pid)) report("pid", `${entry.pid} is no process id`);
    else if (parents.has(entry.pid)) report("pid", `process ${entry.pid} appears more than once`);
    else {
      parents.set(entry.pid, entry.ppid);
      owner.set(entry.pid, entry.pid);
    }
  }
  for (const entry of entries) {
    const seen = new Set<number>();
    for (const tid of entry.threads) {
      const holder = owner.get(tid);
      if (!valid(tid)) report("threads", `process ${entry.pid} has thread ${tid}, which is no thread id`);
      else if (seen.has(tid)) report("threads", `process ${entry.pid} has thread ${tid} more than once`);
      else if (holder !== undefined && (holder !== entry.pid || tid !== entry.pid)) {
        report("threads", `thread ${tid} of process ${entry.pid} has the number of ${nameOf(tid, holder)}`);
      } else owner.set(tid, entry.pid);
      seen.add(tid);
    }
  }
  return parents;
}

function nameOf(tid: number, holder: number): string {
  return tid === holder ? `process ${holder}` : `a thread of process ${holder}`;
}

function checkRoots(entries: readonly TreeEntry[], parents: ReadonlyMap<number, number>, report: Report): void {
  const roots = entries.filter((entry) => !parents.has(entry.ppid));
  const real = roots.find((entry) => entry.ppid === 0) ?? roots[0];
  for (const entry of roots) {
    if (entry === real) continue;
    report(
      "ppid",
      entry.ppid === 0
        ? `process ${entry.pid} has no parent, but the root is process ${real?.pid}`
        : `the parent ${entry.ppid} of process ${entry.pid} is missing`,
    );
  }
}

/** Reports each cycle once; entries below a cycle are not reported. */
function checkCycles(parents: ReadonlyMap<number, number>, report: Report): void {
  const visit = new Map<number, number>();
  for (const start of parents.keys()) {
    const path: number[] = [];
    let pid: number | undefined = start;
    while (pid !== undefined && parents.has(pid) && !visit.has(pid)) {
      visit.set(pid, start);
      path.push(pid);
      pid = parents.get(pid);
    }
    if (pid !== undefined && visit.get(pid) === start && path.includes(pid)) {
      const cycle = path.slice(path.indexOf(pid));
      report("ppid", `the parents of process ${pid} lead back to it (${[...cycle, pid].slice(0, 12).join(", ")})`);
    }
  }
}

/** The entries with every parent before its children, the root first; throws all problems when they are no tree. */
export function treeOrder<T extends TreeEntry>(entries: readonly T[], file = "pstree.img"): readonly T[] {
  const errors = checkTree(entries, file);
  const [first] = errors;
  if (first !== undefined) throw errors.length === 1 ? first : new Problems(errors);
  const pids = new Set(entries.map((entry) => entry.pid));
  const children = new Map<number, T[]>();
  const order: T[] = [];
  for (const entry of entries) {
    if (!pids.has(entry.ppid)) {
      order.push(entry);
      continue;
    }
    const siblings = children.get(entry.ppid);
    if (siblings === undefined) children.set(entry.ppid, [entry]);
    else siblings.push(entry);
  }
  for (const entry of order) for (const child of children.get(entry.pid) ?? []) order.push(child);
  return order;
}
