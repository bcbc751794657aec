/**
 * Pre-dump of memory that processes share: shared anonymous memory, segments, memfds. They run meanwhile, so what is read may be
 * half old, half new; a later dump takes over only what is equal (`increment.ts`).
 *
 * Found by    /proc/PID/maps and /proc/PID/fd; the numbers are those that the dump will use (`memfd-dump.ts`)
 * Left out    files of huge pages
 */
import { closeSync, constants, fstatSync } from "node:fs";
import { openSync, readdirSync, readlinkSync } from "../../linux/named-files.js";
import { fstatfs } from "../../linux/files.js";
import { readMaps } from "../../linux/proc/read.js";
import { areaKind } from "./area.js";
import { HUGETLBFS_MAGIC, memfdName, sharedIdOf } from "./memfd-dump.js";
import { type ToSave, saveObject } from "./shared.js";

/** An object, and a path below /proc to open it through. */
interface Shared {
  readonly inode: bigint;
  readonly kind: "sysv" | "anonymous" | "file";
  readonly path: string;
}

/** Copies what the processes share, each object once; `nextPagesId` numbers the images. Processes may end meanwhile. */
export function copyShared(pids: readonly number[], to: Omit<ToSave, "pagesId"> & { nextPagesId: () => number }): void {
  const found = new Map<string, Shared>();
  for (const pid of pids) {
    for (const [key, shared] of [...mappedBy(pid), ...openIn(pid)]) if (!found.has(key)) found.set(key, shared);
  }
  const segments = new Set([...found.values()].filter(({ kind }) => kind === "sysv").map(({ inode }) => inode));
  const saved = new Set<bigint>();
  for (const shared of found.values()) {
    const id = shared.kind === "sysv" ? shared.inode : sharedIdOf(shared.inode, { isAnonymous: shared.kind === "anonymous", segments });
    if (saved.has(id)) continue; // the dump gives one of them another number, and saves it as a whole
    if (copyObject(shared.path, id, to)) saved.add(id);
  }
}

/** False when there is nothing to be copied any more. */
function copyObject(path: string, id: bigint, to: Omit<ToSave, "pagesId"> & { nextPagesId: () => number }): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY);
  } catch {
    return false; // it was unmapped or closed
  }
  try {
    if (fstatfs(fd).type === HUGETLBFS_MAGIC) return false;
    saveObject(fd, id, { ...to, pagesId: to.nextPagesId() });
    return true;
  } finally {
    closeSync(fd);
  }
}

function mappedBy(pid: number): [string, Shared][] {
  try {
    return readMaps(pid).flatMap((vma): [string, Shared][] => {
      const kind = areaKind(vma);
      if (kind !== "shared-anonymous" && kind !== "sysv" && kind !== "memfd") return [];
      const path = `/proc/${pid}/map_files/${vma.start.toString(16)}-${vma.end.toString(16)}`;
      const of = kind === "sysv" ? "sysv" : kind === "memfd" ? "file" : "anonymous";
      // A memfd and anonymous memory are inodes of one file system; a number of a segment is one of its own.
      return [[`${of === "sysv" ? "segment" : "inode"} ${vma.inode}`, { inode: vma.inode, kind: of, path }]];
    });
  } catch {
    return []; // it ended
  }
}

function openIn(pid: number): [string, Shared][] {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).flatMap((name): [string, Shared][] => {
      const path = `${folder}/${name}`;
      try {
        if (memfdName(readlinkSync(path)) === undefined) return [];
        const fd = openSync(path, constants.O_RDONLY);
        try {
          const inode = fstatSync(fd, { bigint: true }).ino;
          return [[`inode ${inode}`, { inode, kind: "file", path }]];
        } finally {
          closeSync(fd);
        }
      } catch {
        return []; // it was closed
      }
    });
  } catch {
    return []; // it ended
  }
}
