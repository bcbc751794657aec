/**
 * Copies of files that are to be carried, made while the tree still runs; a file that has not changed by the time the tree
 * stands still need not be copied then.
 *
 * Unchanged is a file with the same size, time of change and time of writing. The kernel's clock for these is coarse, so a
 * file that has just been written to is not taken; nor is one that somebody maps shared to write to it (carry.ts).
 */
import { type BigIntStats, closeSync, fstatSync, ftruncateSync } from "node:fs";
import { readlinkSync, statSync } from "../../linux/named-files.js";
import { KernelError } from "../../errors.js";
import { SEEK_SET, lseek } from "../../linux/files.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readMaps } from "../../linux/proc/read.js";
import type { Xattr } from "../../linux/xattr.js";
import type { Fd } from "../part.js";
import { type PolicyOptions, policyOf } from "../policy.js";
import { isGuardedBy, guardsOf } from "../watches/guards.js";
import { copy, dataRanges, keptXattrs, openToRead } from "./deleted.js";
import { isFresh, isRegular, leasedFiles } from "./unchanged.js";

/** A part of a file that has data, and where in the copy that is. */
export interface CopiedPart {
  readonly off: number;
  readonly len: number;
  readonly at: number;
}

/** The data of a file, the parts one behind the other. */
export interface FileCopy {
  readonly fd: Fd;
  /** The file as it was. */
  readonly stat: BigIntStats;
  readonly xattrs: readonly Xattr[];
  readonly parts: readonly CopiedPart[];
}

/** By device and inode. */
export type FilesAhead = ReadonlyMap<string, FileCopy>;

export const inodeKey = (stat: BigIntStats): string => `${stat.dev}/${stat.ino}`;

export function isUnchanged(then: BigIntStats, now: BigIntStats): boolean {
  return then.size === now.size && then.mtimeNs === now.mtimeNs && then.ctimeNs === now.ctimeNs;
}

/** Files of which nothing is copied, since looking into them is not reading: those of the kernel itself. */
export function isOfKernel(name: string): boolean {
  return /^\/(proc|sys)\//.test(name);
}

interface Found {
  /** A path through which the very file can be opened. */
  readonly path: string;
  readonly stat: BigIntStats;
}

/** Copies what the processes have open or mapped and is to be carried. What does not work out is left to the dump. */
export function copyFilesAhead(
  pids: readonly number[],
  { options, scratch, isHeard }: { options: PolicyOptions; scratch: () => Fd | undefined; isHeard: boolean },
): FilesAhead {
  const copies = new Map<string, FileCopy>();
  const { general, byPath } = options.filePolicy;
  if (general !== "carry" && ![...byPath.values()].includes("carry")) return copies;
  const found = new Map<string, Found>();
  // Reading one would break the lease.
  const leased = leasedFiles();
  for (const pid of pids) findFiles(pid, options, found);
  const guards = guardsOf(pids);
  for (const [key, { path, stat }] of found) {
    if (isGuardedBy(guards, path) || leased.has(stat.ino) || stat.nlink === 0n || isFresh(stat)) continue;
    const fd = scratch();
    if (fd === undefined) return copies;
    try {
      const made = copyFile(path, fd, isHeard);
      if (isUnchanged(made.stat, statSync(path, { bigint: true }))) copies.set(key, made);
    } catch (error) {
      // The file or its process is gone; a full disk will be met again by the dump.
      if (!(error instanceof KernelError) && (error as NodeJS.ErrnoException).code === undefined) throw error;
    }
  }
  return copies;
}

function findFiles(pid: number, options: PolicyOptions, found: Map<string, Found>): void {
  const proc = `/proc/${pid}`;
  const note = (path: string) => {
    try {
      const name = readlinkSync(path);
      if (isOfKernel(name) || policyOf(name, options) !== "carry") return;
      const stat = statSync(path, { bigint: true });
      if (isRegular(stat)) found.set(inodeKey(stat), { path, stat });
    } catch {
      // Closed meanwhile, or the process has ended.
    }
  };
  try {
    note(`${proc}/exe`);
    for (const fd of readFdNumbers(pid)) note(`${proc}/fd/${fd}`);
    const mapped = new Set<bigint>();
    for (const { inode, name, start, end } of readMaps(pid)) {
      if (inode === 0n || mapped.has(inode) || !name.startsWith("/")) continue;
      mapped.add(inode);
      note(`${proc}/map_files/${start.toString(16)}-${end.toString(16)}`);
    }
  } catch {
    // The process has ended.
  }
}

/** Copies the data of the file that `path` leads to into the empty file `to`. `isHeard`: the tree would be told of a plain look. */
export function copyFile(path: string, to: Fd, isHeard: boolean): FileCopy {
  const reader = openToRead(path, isHeard);
  try {
    const stat = fstatSync(reader, { bigint: true });
    const xattrs = keptXattrs(`/proc/self/fd/${reader}`);
    ftruncateSync(to, 0);
    lseek(to, 0n, SEEK_SET);
    let at = 0;
    const parts = dataRanges(reader, Number(stat.size)).map(({ off, len }) => {
      const part = { off, len, at };
      copy({ fd: reader, at: off }, to, len);
      at += len;
      return part;
    });
    return { fd: to, stat, xattrs, parts };
  } finally {
    closeSync(reader);
  }
}
