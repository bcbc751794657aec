/**
 * Where a watched file is: the kernel keeps no name for it, only its inode number, device, and a file handle.
 *
 * Found by    the handle; else by a search before the freeze (irmap.ts); else among names that the tree uses (descriptors, working directories, mappings), the
 *             directories above them and what lies directly in those
 * Nothing here opens a file in a way that a watch would notice.
 */
import { type BigIntStats, closeSync, fstatSync } from "node:fs";
import { dirname, join } from "../../linux/named-paths.js";
import { lstatSync, readdirSync, readlinkSync, statSync } from "../../linux/named-files.js";
import { fromKernelDevice, toStatDevice } from "../../linux/device-numbers.js";
import { AT_FDCWD, O_CLOEXEC, O_PATH, inDirectory, openByHandleAt } from "../../linux/files.js";
import type { FileHandle } from "../../linux/proc/fdinfo-kinds.js";
import { readMountinfo } from "../../linux/proc/read.js";
import type { DumpSession, Fd, RestoreSession } from "../part.js";
import { isGuarded } from "./guards.js";
import { type FhEntry, fhEntrySizes } from "./file-handle.schema.js";

/** A watched file, as fdinfo shows it. */
export interface Watched {
  readonly inode: bigint;
  /** As the kernel numbers it inside. */
  readonly device: number;
  readonly handle: FileHandle | undefined;
}

/** Its name, or where it is open without having one. */
export interface Place {
  readonly path?: string;
  readonly holder?: { readonly pid: number; readonly fd: number };
}

/** Paths of watched files, by {@link watchedKey}. */
export type Irmap = ReadonlyMap<string, string>;

/** The device as stat(2) numbers it. */
export const statDevice = ({ device }: Pick<Watched, "device">): bigint => toStatDevice(fromKernelDevice(device));

export const watchedKey = (watched: Pick<Watched, "device" | "inode">): string => `${statDevice(watched)}/${watched.inode}`;

/** Whether the file has this path now. */
export function isAt(path: string, { inode, device }: Watched): boolean {
  const there = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return there !== undefined && isSame(there, { inode, device });
}

export function isSame(stat: BigIntStats, watched: Pick<Watched, "inode" | "device">): boolean {
  return stat.ino === watched.inode && stat.dev === statDevice(watched);
}

/** The mount points of a file system, as process `pid` sees them. */
function mountPoints(pid: number, device: number): string[] {
  const { major, minor } = fromKernelDevice(device);
  return readMountinfo(pid).flatMap((m) => (m.devMajor === major && m.devMinor === minor ? [m.mountPoint] : []));
}

/** A descriptor (O_PATH) of the file behind a handle. Going to the mount point is noticed by no watch; opening it would be. */
function openHandle(handle: { type: number; bytes: Uint8Array }, mountPoint: string): Fd | undefined {
  try {
    return inDirectory(mountPoint, () => openByHandleAt(AT_FDCWD, handle, O_PATH | O_CLOEXEC));
  } catch {
    return undefined; // the file system knows no handles, or the mount shows another part of it
  }
}

/** The path that the handle of a file leads to. */
export function pathByHandle(watched: Watched, pid: number): string | undefined {
  const found = byHandle(watched, pid);
  return found === "deleted" ? undefined : found;
}

/** The same; "deleted": the handle leads to a file that has no name any more, so that nobody need look for one. */
export function byHandle(watched: Watched, pid: number): string | "deleted" | undefined {
  if (watched.handle === undefined || watched.handle.bytes.length === 0) return undefined;
  for (const point of mountPoints(pid, watched.device)) {
    const fd = openHandle(watched.handle, point);
    if (fd === undefined) continue;
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      if (isAt(path, watched)) return path;
      const stat = fstatSync(fd, { bigint: true });
      if (stat.nlink === 0n && isSame(stat, watched)) return "deleted";
    } finally {
      closeSync(fd);
    }
  }
  return undefined;
}

/** A descriptor of the tree for the file. */
function openIn(watched: Watched, session: DumpSession): { pid: number; fd: number; isDeleted: boolean } | undefined {
  for (const task of session.tasks) {
    const directory = `/proc/${task.traced.pid}/fd`;
    for (const fd of readdirSync(directory)) {
      const stat = statSync(`${directory}/${fd}`, { bigint: true });
      if (isSame(stat, watched)) return { pid: task.pid, fd: Number(fd), isDeleted: stat.nlink === 0n };
    }
  }
  return undefined;
}

function namesInUse(session: DumpSession): Set<string> {
  const names = new Set<string>();
  for (const task of session.tasks) {
    const proc = `/proc/${task.traced.pid}`;
    const links = [`${proc}/cwd`, `${proc}/root`, `${proc}/exe`, ...readdirSync(`${proc}/fd`).map((fd) => `${proc}/fd/${fd}`)];
    for (const name of [...links.map((link) => readlinkSync(link)), ...task.vmas.map((vma) => vma.name)]) {
      for (let at = name; at.startsWith("/") && !names.has(at); at = dirname(at)) names.add(at);
    }
  }
  return names;
}

function byName(watched: Watched, session: DumpSession): string | undefined {
  const names = [...namesInUse(session)];
  const known = names.find((name) => isAt(name, watched));
  if (known !== undefined) return known;
  for (const directory of names) {
    if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true || isGuarded(directory, session)) continue;
    for (const entry of readdirSync(directory)) if (isAt(join(directory, entry), watched)) return join(directory, entry);
  }
  return undefined;
}

/** In a watched directory that the search has passed over. What its watch tells of this look is behind what was unread before. */
function inWatched(watched: Watched, session: DumpSession): string | undefined {
  for (const directory of new Set(session.irmap.values())) {
    if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true || isGuarded(directory, session)) continue;
    for (const entry of readdirSync(directory)) if (isAt(join(directory, entry), watched)) return join(directory, entry);
  }
  return undefined;
}

/** Where the file is; undefined: nobody can tell. */
export function findPlace(watched: Watched, { pid, session }: { pid: number; session: DumpSession }): Place | undefined {
  const searched = session.irmap.get(watchedKey(watched));
  const isSearched = searched !== undefined && isAt(searched, watched);
  const path = isSearched && session.options.forceIrmap === true ? searched : pathByHandle(watched, pid);
  if (path !== undefined) return { path };
  if (isSearched) return { path: searched };
  const open = openIn(watched, session);
  const found = open?.isDeleted === true ? undefined : (byName(watched, session) ?? inWatched(watched, session));
  if (found !== undefined) return { path: found };
  return open === undefined ? undefined : { holder: open };
}

const WORD_BYTES = 8;
const HANDLE_WORDS = fhEntrySizes.values.min_entries;

/** The handle and place as images have them: the bytes in words of eight. */
export function handleEntry({ handle }: Watched, { path, holder }: Place): FhEntry {
  const bytes = Buffer.alloc(HANDLE_WORDS * WORD_BYTES);
  bytes.set(handle?.bytes ?? [], 0);
  return {
    bytes: handle?.bytes.length ?? 0,
    type: handle?.type ?? 0,
    handle: Array.from({ length: HANDLE_WORDS }, (_, i) => bytes.readBigUInt64LE(i * WORD_BYTES)),
    ...(path === undefined ? {} : { path }),
    ...(holder === undefined ? {} : { holder: holder.pid, holder_fd: holder.fd }),
  };
}

/** A path that leads to the file now; `isLink`: it is one of /proc, which must be followed. Undefined: there is none. */
export function findAgain(
  entry: FhEntry,
  { device, session }: { device: number; session: RestoreSession },
): { path: string; isLink: boolean } | undefined {
  if (entry.path !== undefined)
    return lstatSync(entry.path, { throwIfNoEntry: false }) === undefined ? undefined : { path: entry.path, isLink: false };
  if (entry.holder !== undefined) return { path: `/proc/${session.task(entry.holder)?.traced.pid}/fd/${entry.holder_fd}`, isLink: true };
  const words = Buffer.alloc(entry.handle.length * WORD_BYTES);
  entry.handle.forEach((word, i) => words.writeBigUInt64LE(word, i * WORD_BYTES));
  for (const point of mountPoints(process.pid, device)) {
    const fd = openHandle({ type: entry.type, bytes: words.subarray(0, entry.bytes) }, point);
    if (fd === undefined) continue;
    session.closeLater(fd);
    return { path: `/proc/self/fd/${fd}`, isLink: true };
  }
  return undefined;
}
