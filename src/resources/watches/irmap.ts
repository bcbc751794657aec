/**
 * From inodes to paths ("irmap"): names of watched files that their handles do not lead to, found by looking through directories
 * before the freeze; and the file `irmap-cache` with what a pre-dump has found.
 *
 * Looked at   what was found before (only if it still is so), the directories of --irmap-scan-path with all below, then
 *             places where programs usually watch something
 * Looking must not show: a directory of which somebody would be told that it was opened or read is passed over (the dump looks into
 * it in the freeze, if need be), and so is one that the tree decides about (guards.ts).
 */
import type { BigIntStats } from "node:fs";
import { join, resolve } from "../../linux/named-paths.js";
import { lstatSync, readdirSync, readlinkSync } from "../../linux/named-files.js";
import { IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN } from "../../linux/events.js";
import { fanotifyInfo, inotifyWatches } from "../../linux/proc/fdinfo-kinds.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";
import type { ImageSink, ImageSource } from "../part.js";
import type { PolicyOptions } from "../policy.js";
import { irmapCacheEntry } from "./file-handle.schema.js";
import { FANOTIFY_LINK, type Guards, guardsOf, isGuardedBy } from "./guards.js";
import { INOTIFY_LINK } from "./listeners.js";
import { type Irmap, type Watched, byHandle, isAt, isSame, pathByHandle, statDevice, watchedKey } from "./places.js";

/** Where programs watch something, and what lies in / itself. */
const USUAL = ["/etc", "/var/log", "/var/spool", "/var/lib", "/run", "/usr/share", "/usr/lib", "/home", "/root", "/srv", "/opt"];
/** So many files are looked at, which takes seconds, and no more. */
const MAX_FILES = 2_000_000;
const TELLS_OF_READING = IN_ACCESS | IN_OPEN | IN_CLOSE_NOWRITE;

/** One watched file of the running tree. */
interface Target extends Watched {
  readonly pid: number;
  readonly mask: number;
}

function targetsOf(pid: number): Target[] {
  try {
    return readFdNumbers(pid).flatMap((fd) => {
      const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
      if (link === INOTIFY_LINK) return inotifyWatches(readFdInfo(pid, fd)).map((watch) => ({ ...watch, pid }));
      if (link !== FANOTIFY_LINK) return [];
      return fanotifyInfo(readFdInfo(pid, fd)).marks.flatMap(({ inode, device, handle, mask }) =>
        inode === undefined || device === undefined ? [] : [{ inode, device, handle, mask, pid }],
      );
    });
  } catch {
    return []; // it has ended, or closed some
  }
}

/** The paths of what is watched by running processes, as far as they have to be, and can be, found by looking for them. */
export function findWatched(pids: readonly number[], options: PolicyOptions, known: Irmap): Irmap {
  const found = new Map<string, string>();
  const open = new Map<string, Target>();
  const all = pids.flatMap(targetsOf);
  for (const target of all) {
    const key = watchedKey(target);
    if (open.has(key) || (options.forceIrmap !== true && byHandle(target, target.pid) !== undefined)) continue;
    const before = known.get(key);
    if (before !== undefined && isAt(before, target)) found.set(key, before);
    else open.set(key, target);
  }
  if (open.size === 0) return found;
  const search = new Search(open, found, { guards: guardsOf(pids), all });
  for (const path of options.irmapScanPaths ?? []) search.through(resolve(path));
  for (const path of USUAL) search.onItsDevice(path);
  search.in("/");
  return found;
}

class Search {
  readonly #open: Map<string, Target>;
  readonly #found: Map<string, string>;
  readonly #guards: Guards;
  readonly #inodes: Map<bigint, Target[]>;
  /** Directories that nobody may open, or open one in, without being noticed. */
  readonly #alert: ReadonlySet<bigint>;
  readonly #seen = new Set<string>();
  #files = 0;

  constructor(open: Map<string, Target>, found: Map<string, string>, on: { guards: Guards; all: readonly Target[] }) {
    this.#open = open;
    this.#found = found;
    this.#guards = on.guards;
    this.#inodes = new Map();
    for (const target of open.values()) this.#inodes.set(target.inode, [...(this.#inodes.get(target.inode) ?? []), target]);
    this.#alert = new Set(on.all.filter(({ mask }) => (mask & TELLS_OF_READING) !== 0).map(({ inode }) => inode));
  }

  /** Looks at a path and everything below it, on whatever file systems. */
  through(path: string): void {
    this.#walk(path, () => true);
  }

  /** The same as far as it is on file systems of which something is wanted. */
  onItsDevice(path: string): void {
    const devices = new Set([...this.#open.values()].map(statDevice));
    this.#walk(path, (stat) => devices.has(stat.dev));
  }

  #walk(path: string, isWanted: (stat: BigIntStats) => boolean): void {
    const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined || !isWanted(stat)) return;
    this.#look(path, stat);
    const folders = stat.isDirectory() ? [{ path, inode: stat.ino, above: -1n }] : [];
    for (let at = folders.pop(); at !== undefined && this.#open.size > 0; at = folders.pop()) {
      const { path: folder, inode } = at;
      if (this.#alert.has(at.above)) continue;
      for (const one of this.#entries(folder, inode))
        if (one.stat.isDirectory() && isWanted(one.stat)) folders.push({ path: one.path, inode: one.stat.ino, above: inode });
    }
  }

  /** Looks at what lies in a directory, and no deeper. */
  in(path: string): void {
    const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat !== undefined && this.#open.size > 0) this.#entries(path, stat.ino);
  }

  #entries(folder: string, inode: bigint): { path: string; stat: BigIntStats }[] {
    if (this.#alert.has(inode) || this.#seen.has(folder) || folder === "/proc" || folder === "/sys") return [];
    this.#seen.add(folder);
    if (isGuardedBy(this.#guards, folder)) return [];
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch {
      return []; // gone, or not to be read
    }
    return names.flatMap((name) => {
      if (++this.#files > MAX_FILES) return [];
      const path = join(folder, name);
      const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (stat === undefined) return [];
      this.#look(path, stat);
      return [{ path, stat }];
    });
  }

  #look(path: string, stat: BigIntStats): void {
    for (const target of this.#inodes.get(stat.ino) ?? []) {
      if (!isSame(stat, target) || !this.#open.delete(watchedKey(target))) continue;
      this.#found.set(watchedKey(target), path);
    }
  }
}

/** Writes the irmap-cache: everything watched that has a path. */
export function writeCache(pids: readonly number[], options: PolicyOptions, images: Pick<ImageSink, "append">): void {
  const found = findWatched(pids, options, new Map());
  const written = new Set<string>();
  for (const target of pids.flatMap(targetsOf)) {
    const path = found.get(watchedKey(target)) ?? pathByHandle(target, target.pid);
    if (path === undefined || written.has(watchedKey(target))) continue;
    written.add(watchedKey(target));
    const value = { dev: Number(statDevice(target)), inode: target.inode, path };
    images.append("IRMAP_CACHE", [], { type: irmapCacheEntry, value });
  }
}

/** What earlier pre-dumps have found: hints, to be looked at before use. */
export function readCache(sources: readonly Pick<ImageSource, "records">[]): Irmap {
  const known = new Map<string, string>();
  for (const source of sources)
    for (const { value } of source.records("IRMAP_CACHE", [], irmapCacheEntry)) known.set(`${value.dev}/${value.inode}`, value.path);
  return known;
}
