/**
 * Where the files that an epoll watches are open: the kernel keeps the number that each was added under, but by now that
 * number may be closed or another file's, and the file itself be open elsewhere only.
 */
import { readdirSync, statSync } from "node:fs";
import type { EpollTarget } from "../../linux/proc/fdinfo-kinds.js";
import { type EpollSlot, kcmpEpollTarget } from "../../linux/process.js";
import type { DumpSession, DumpTask, OpenFile } from "../part.js";

/** A descriptor of a task of the tree. */
export interface Place {
  readonly task: DumpTask;
  readonly fd: number;
}

/** All descriptors of the tree by inode number; made when the first target is not where it was added. */
const indexes = new WeakMap<DumpSession, Map<bigint, Place[]>>();

function indexOf(session: DumpSession): Map<bigint, Place[]> {
  const known = indexes.get(session);
  if (known !== undefined) return known;
  const index = new Map<bigint, Place[]>();
  const tables = new Set<number>();
  for (const task of session.tasks) {
    if (tables.has(task.ids.files)) continue;
    tables.add(task.ids.files);
    const directory = `/proc/${task.traced.pid}/fd`;
    for (const fd of readdirSync(directory).map(Number)) {
      const { ino } = statSync(`${directory}/${fd}`, { bigint: true });
      const places = index.get(ino);
      if (places === undefined) index.set(ino, [{ task, fd }]);
      else places.push({ task, fd });
    }
  }
  indexes.set(session, index);
  return index;
}

function isTarget(place: Place, slot: EpollSlot): boolean {
  try {
    return kcmpEpollTarget({ pid: place.task.traced.pid, fd: place.fd }, slot) === 0;
  } catch {
    return false; // EBADF: nothing is open there any more
  }
}

/** A place where a target is open: under its own number in the epoll's task, else in that task, else anywhere in the tree. */
export function placeOf(
  target: EpollTarget,
  { file, skip, session }: { file: OpenFile; skip: number; session: DumpSession },
): Place | undefined {
  const slot = { pid: file.isInFlight === true ? process.pid : file.task.traced.pid, epollFd: file.fd, tfd: target.fd, skip };
  const obvious = { task: file.task, fd: target.fd };
  if (isTarget(obvious, slot)) return obvious;
  const alike = indexOf(session).get(target.inode) ?? [];
  const own = alike.filter((p) => p.task.ids.files === file.task.ids.files);
  const others = alike.filter((p) => p.task.ids.files !== file.task.ids.files);
  return [...own, ...others].find((p) => isTarget(p, slot));
}
