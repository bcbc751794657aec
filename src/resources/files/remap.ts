/**
 * Open files whose name leads to them no longer: deleted ones, and such as have other hard links only.
 *
 * Read from   the ` (deleted)` behind a name in /proc, compared with what has the name now
 * Made with   the file is put back under its name for a moment, opened, and the name taken away again, so that /proc
 *             shows the same as before; what has that name now is moved aside meanwhile
 *
 * A file without any link is carried whole (deleted.ts). One with links elsewhere gets one more link at dump, with
 * --link-remap, which the restore uses and removes.
 */
import { type BigIntStats, closeSync } from "node:fs";
import { basename, dirname, join } from "../../linux/named-paths.js";
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  statfsSync,
  unlinkSync,
} from "../../linux/named-files.js";
import { ImageError, KernelError, type ProcessName, Refusal } from "../../errors.js";
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  O_ACCMODE,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_RDWR,
  O_TMPFILE,
  linkat,
  openat,
} from "../../linux/files.js";
import type { DumpSession, Fd, FileUse, Problem, RestoreSession } from "../part.js";
import { policyOf } from "../policy.js";
import { type SavedGhost, fillUnnamed, isRegularGhost, makeGhost, readGhost, saveGhost } from "./deleted.js";
import { isGuarded } from "../watches/guards.js";
import { isHidden, isMessageQueue, leadsTo, messageQueue } from "./hidden.js";
import { isLeased } from "./locks.js";
import type { RegFileEntry } from "./regular.schema.js";
import { hasOuterNumber, outerNumber } from "./proc-path.js";
import { type RemapFilePathEntry, remapFilePathEntry, remapType } from "./remap.schema.js";
import { fdTypes, fileEntry } from "./table.schema.js";

const DELETED = " (deleted)";
const S_IFMT = 0o170000n;
const S_IFDIR = 0o040000n;
const BLOCK_BYTES = 512n;
const NO_OWNER = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };
/** Older images: this bit of remap_id says that the other file is a deleted one. */
const OLD_GHOST_BIT = 0x80000000;
const UNNAMED_FILE = O_TMPFILE & ~O_DIRECTORY;

/** A file as /proc shows it. */
export interface FoundFile {
  readonly id: number;
  /** Text of the link in /proc. */
  readonly link: string;
  readonly stat: BigIntStats;
  /** The mount that it was opened on. */
  readonly mountId: number;
  /** A path through which the very file can be opened, whatever its name. */
  readonly openPath: string;
  readonly process: ProcessName;
  /** What it is to the process, as in `fd 3`. */
  readonly what: string;
}

/** What is known of files without their name, by device and inode. */
interface Kept {
  readonly ghosts: Map<string, number>;
  readonly links: Map<string, number>;
}
const kept = new WeakMap<DumpSession, Kept>();

/**
 * The name to record for a file. If that name does not lead to it, the file itself is carried or linked as well; undefined
 * when that was refused.
 */
export function nameOf(file: FoundFile, session: DumpSession): string | undefined {
  const { link, stat } = file;
  if (hasOuterNumber(link, session)) {
    session.refuse(outerNumber(file));
    return undefined;
  }
  if (!link.endsWith(DELETED)) return isHidden(file, session) ? undefined : link;
  if (leadsTo(link, stat)) return link;
  const name = link.slice(0, -DELETED.length);
  // Linked again under its old name: /proc goes on calling it deleted.
  if (leadsTo(name, stat)) return name;
  const isDirectory = (stat.mode & S_IFMT) === S_IFDIR;
  const remap =
    stat.nlink === 0n || isDirectory || isGoneInOverlay(file, name, session) ? ghostFor(file, session) : linkFor(file, name, session);
  if (remap === undefined) return undefined;
  session.images.append("REMAP_FPATH", [], { type: remapFilePathEntry, value: { orig_id: file.id, ...remap } });
  return name;
}

/** linux/magic.h. */
const OVERLAYFS_SUPER_MAGIC = 0x794c_7630;

/**
 * Whether a file of an overlay is gone, although the file of a lower layer that it is has its name there, and is counted as linked: nobody
 * can link it again.
 */
function isGoneInOverlay(file: FoundFile, name: string, session: DumpSession): boolean {
  if (file.stat.nlink !== 1n || statfsSync(file.openPath).type !== OVERLAYFS_SUPER_MAGIC) return false;
  const made = makeLink(file.openPath, dirname(name), session.newFileId());
  if (made !== undefined) unlinkSync(made);
  return made === undefined;
}

type Remap = Omit<RemapFilePathEntry, "orig_id">;

function keptOf(session: DumpSession): Kept {
  const found = kept.get(session) ?? { ghosts: new Map<string, number>(), links: new Map<string, number>() };
  kept.set(session, found);
  return found;
}

function ghostFor(file: FoundFile, session: DumpSession): Remap | undefined {
  const { stat } = file;
  const { ghosts } = keptOf(session);
  const key = `${stat.dev}/${stat.ino}`;
  let number = ghosts.get(key);
  if (number === undefined) {
    if (isMessageQueue(file)) {
      session.refuse(messageQueue(file));
      return undefined;
    }
    if (isTooLarge(file, session)) return undefined;
    if (isLeased(stat, session) || isGuarded(file.openPath, session)) {
      session.refuse(isLeased(stat, session) ? leased(file) : guarded(file));
      return undefined;
    }
    number = ghosts.size + 1;
    ghosts.set(key, number);
    // An O_PATH descriptor of a symbolic link has no path that leads to the link itself: it is looked at as it is.
    const local = openPathOf(file);
    try {
      saveGhost(number, { stat, local: local.fd }, session);
    } finally {
      if (local.isOurs) closeSync(local.fd);
    }
  }
  return { remap_id: number, remap_type: remapType.values.GHOST };
}

function leased(file: FoundFile): Refusal {
  return new Refusal({
    code: "FILE_LOCK_UNSUPPORTED",
    process: file.process,
    resource: `${file.what}, the deleted file "${file.link.slice(0, -DELETED.length)}"`,
    because: "it is under a lease for writing, which reading it would break",
    remedy: ["Let the program give the lease up first"],
  });
}

function guarded(file: FoundFile): Refusal {
  return new Refusal({
    code: "FANOTIFY_PERMISSION",
    process: file.process,
    resource: `${file.what}, the deleted file "${file.link.slice(0, -DELETED.length)}"`,
    because: "a fanotify group of the tree decides who may open it, and cannot while it is frozen",
    remedy: ["Let the program remove the mark first"],
  });
}

function openPathOf({ openPath }: FoundFile): { fd: Fd; isOurs: boolean } {
  const own = /^\/proc\/self\/fd\/(\d+)$/.exec(openPath)?.[1];
  if (own !== undefined) return { fd: Number(own), isOurs: false };
  return { fd: openat(AT_FDCWD, openPath, { flags: O_PATH | O_CLOEXEC }), isOurs: true };
}

function isTooLarge(file: FoundFile, session: DumpSession): boolean {
  const limit = session.options.ghostLimitBytes;
  const size = file.stat.blocks * BLOCK_BYTES;
  // Who asks for the contents of files in the images asks for those of deleted ones too.
  if (size <= BigInt(limit) || policyOf(file.link.slice(0, -DELETED.length), session.options) === "carry") return false;
  session.refuse(
    new Refusal({
      code: "GHOST_FILE_TOO_LARGE",
      process: file.process,
      resource: `${file.what}, the deleted file "${file.link.slice(0, -DELETED.length)}"`,
      because: `it has ${size} bytes on disk, and the limit for copying deleted files into the images is ${limit}`,
      remedy: [`Raise the limit with --ghost-limit ${size}`, "Let the program close the file first"],
    }),
  );
  return true;
}

function linkFor(file: FoundFile, name: string, session: DumpSession): Remap | undefined {
  const { links } = keptOf(session);
  const key = `${file.stat.dev}/${file.stat.ino}`;
  let id = links.get(key);
  if (id === undefined) {
    if (!session.options.linkRemap) {
      session.refuse(
        unlinked(
          file,
          name,
          "its name is gone, while other hard links to it exist, and no temporary link was allowed",
          "Allow one with --link-remap",
        ),
      );
      return undefined;
    }
    id = session.newFileId();
    const made = makeLink(file.openPath, dirname(name), id);
    if (made === undefined) {
      session.refuse(
        unlinked(file, name, "its name is gone, and no temporary link to it could be made", "Make the directory of the file writable"),
      );
      return undefined;
    }
    session.takeBack(() => unlinkSync(made));
    links.set(key, id);
    const reg: RegFileEntry = { id, flags: 0, pos: 0n, fown: NO_OWNER, name: made, build_id: [] };
    session.images.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.REG, id, reg } });
  }
  return { remap_id: id, remap_type: remapType.values.LINKED };
}

function unlinked(file: FoundFile, name: string, because: string, remedy: string): Refusal {
  return new Refusal({
    code: "FILE_NAME_GONE",
    process: file.process,
    resource: `${file.what}, the file "${name}"`,
    because,
    remedy: [remedy, "Let the program close the file first"],
  });
}

/** One more link to the file, in the directory of its name or the nearest one above that still exists. */
function makeLink(openPath: string, directory: string, id: number): string | undefined {
  for (let at = directory; ; at = dirname(at)) {
    for (let suffix = ""; ; suffix = `.${Number(suffix.slice(1)) + 1}`) {
      const path = join(at, `link_remap.${id}${suffix}`);
      try {
        linkat({ dirfd: AT_FDCWD, path: openPath }, { dirfd: AT_FDCWD, path }, AT_SYMLINK_FOLLOW);
        return path;
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        if (error.errno !== EEXIST) break;
      }
    }
    if (at === dirname(at)) return undefined;
  }
}
const EEXIST = 17;

/** One file that several entries of files.img may be: where its names go, and what has been opened of it. */
interface Origin {
  readonly entries: readonly RegFileEntry[];
  /** By name: an O_PATH descriptor, to open the file again. */
  readonly held: Map<string, Fd>;
  /** By id of entry: opened as the entry says already. */
  readonly ready: Map<number, Fd>;
}

/** The files without their name of one restore. */
class Remaps {
  readonly #session: RestoreSession;
  readonly #byId = new Map<number, RemapFilePathEntry>();
  readonly #origins = new Map<string, Origin>();

  constructor(session: RestoreSession) {
    this.#session = session;
    for (const { value } of session.images.records("REMAP_FPATH", [], remapFilePathEntry)) this.#byId.set(value.orig_id, modern(value));
  }

  get(id: number): RemapFilePathEntry | undefined {
    return this.#byId.get(id);
  }

  /** Opens the file of `entry`, which has a remap. */
  open(entry: RegFileEntry, flags: number): Fd {
    const origin = this.#origin(entry.id);
    const ready = origin.ready.get(entry.id);
    if (ready !== undefined && ((flags ^ entry.flags) & (O_PATH | O_ACCMODE)) === 0) {
      origin.ready.delete(entry.id);
      return ready;
    }
    return openat(AT_FDCWD, this.path(entry), { flags: flags & ~(O_NOFOLLOW | (flags & UNNAMED_FILE ? O_TMPFILE : 0)) });
  }

  /** A path of ours that leads to the file. */
  path(entry: RegFileEntry): string {
    return `/proc/self/fd/${this.#origin(entry.id).held.get(entry.name)}`;
  }

  /** Temporary links that a dump has made. */
  *links(): Generator<string> {
    const ids = new Set([...this.#byId.values()].filter((r) => r.remap_type === remapType.values.LINKED).map((r) => r.remap_id));
    for (const id of ids) {
      const name = this.#session.fileEntry(id)?.reg?.name;
      if (name !== undefined) yield name;
    }
  }

  #origin(id: number): Origin {
    const remap = this.#byId.get(id);
    if (remap === undefined) throw new Error(`internal error: file ${id} has its name`);
    const key = `${remap.remap_type}/${remap.remap_id}`;
    let origin = this.#origins.get(key);
    if (origin === undefined) {
      const same = [...this.#byId.values()].filter((r) => r.remap_type === remap.remap_type && r.remap_id === remap.remap_id);
      const entries = same.map((r) => this.#session.fileEntry(r.orig_id)?.reg).filter((reg) => reg !== undefined);
      origin = { entries, held: new Map(), ready: new Map() };
      this.#origins.set(key, origin);
      this.#make(origin, remap);
    }
    return origin;
  }

  #make(origin: Origin, remap: RemapFilePathEntry): void {
    if (remap.remap_type === remapType.values.LINKED) {
      const link = this.#session.fileEntry(remap.remap_id)?.reg?.name ?? "";
      this.#openUnderNames(origin, (path) => linkSync(link, path));
      return;
    }
    const ghost = readGhost(remap.remap_id, this.#session.images);
    const unnamed = origin.entries.find((e) => e.flags & UNNAMED_FILE);
    if (unnamed !== undefined && isRegularGhost(ghost) && this.#openUnnamed(origin, unnamed, ghost)) return;
    this.#openUnderNames(origin, (path) => makeGhost(ghost, path));
  }

  /** A file that never had a name is made as such, so that the process may still give it one. */
  #openUnnamed(origin: Origin, entry: RegFileEntry, ghost: SavedGhost): boolean {
    let fd: Fd;
    try {
      fd = openat(AT_FDCWD, dirname(entry.name), { flags: (entry.flags & ~O_NOFOLLOW) | O_CLOEXEC, mode: 0o600 });
    } catch (error) {
      if (error instanceof KernelError) return false;
      throw error;
    }
    const path = `/proc/self/fd/${fd}`;
    const writer = openat(AT_FDCWD, path, { flags: O_RDWR | O_CLOEXEC });
    try {
      fillUnnamed(ghost, writer);
    } finally {
      closeSync(writer);
    }
    const held = openat(AT_FDCWD, path, { flags: O_PATH | O_CLOEXEC });
    this.#session.closeLater(held);
    for (const { name } of origin.entries) origin.held.set(name, held);
    origin.ready.set(entry.id, fd);
    return true;
  }

  #openUnderNames(origin: Origin, make: (path: string) => void): void {
    const names = [...new Set(origin.entries.map((e) => e.name))];
    const undo: (() => void)[] = [];
    try {
      names.forEach((name, i) => {
        makeRoom(name, undo);
        if (i === 0) make(name);
        else linkSync(names[0] as string, name);
        undo.push(() => remove(name));
      });
      for (const name of names) {
        const fd = openat(AT_FDCWD, name, { flags: O_PATH | O_NOFOLLOW | O_CLOEXEC });
        origin.held.set(name, fd);
        this.#session.closeLater(fd);
      }
      // What is not to follow links cannot be opened through /proc later.
      for (const entry of origin.entries.filter((e) => e.flags & O_NOFOLLOW)) {
        origin.ready.set(entry.id, openat(AT_FDCWD, entry.name, { flags: entry.flags | O_CLOEXEC }));
      }
    } finally {
      for (const step of undo.reverse()) step();
    }
  }
}

function modern(remap: RemapFilePathEntry): RemapFilePathEntry {
  if (remap.remap_type !== undefined) return remap;
  const isGhost = (remap.remap_id & OLD_GHOST_BIT) !== 0;
  return {
    ...remap,
    remap_id: (remap.remap_id & ~OLD_GHOST_BIT) >>> 0,
    remap_type: isGhost ? remapType.values.GHOST : remapType.values.LINKED,
  };
}

/** Makes `name` free and its directory exist; `undo` gets what takes that back. */
function makeRoom(name: string, undo: (() => void)[]): void {
  makeDirectory(dirname(name), undo);
  if (lstatSync(name, { throwIfNoEntry: false }) === undefined) return;
  const taken = new Set(readdirSync(dirname(name)));
  let aside = `.${basename(name)}.aside`;
  while (taken.has(aside)) aside += "_";
  const path = join(dirname(name), aside);
  renameSync(name, path);
  undo.push(() => renameSync(path, name));
}

function makeDirectory(path: string, undo: (() => void)[]): void {
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) return;
  makeDirectory(dirname(path), undo);
  mkdirSync(path, 0o700);
  undo.push(() => rmdirSync(path));
}

function remove(path: string): void {
  if (lstatSync(path).isDirectory()) rmdirSync(path);
  else unlinkSync(path);
}

const remapsOfSession = new WeakMap<RestoreSession, Remaps>();

function remapsOf(session: RestoreSession): Remaps {
  const found = remapsOfSession.get(session) ?? new Remaps(session);
  remapsOfSession.set(session, found);
  return found;
}

/** Whether the name of an entry does not lead to its file. */
export function isRemapped(id: number, session: RestoreSession): boolean {
  return remapsOf(session).get(id) !== undefined;
}

/** Opens the file of an entry that is remapped. */
export function openRemapped(entry: RegFileEntry, session: RestoreSession, flags: number): Fd {
  return remapsOf(session).open(entry, flags);
}

/** A path that leads to the file of an entry as long as the session lasts. */
export function pathOf(entry: RegFileEntry, session: RestoreSession): string {
  return isRemapped(entry.id, session) ? remapsOf(session).path(entry) : entry.name;
}

/** Whether a remapped file can be had again. */
export function checkRemapped(entry: RegFileEntry, session: RestoreSession, use: FileUse): Problem[] {
  const remap = remapsOf(session).get(entry.id);
  const refuse = (code: string, because: string, remedy: string) => [
    new Refusal({ code, process: use.process, resource: `${use.what} "${entry.name}"`, because, remedy: [remedy] }, "restore"),
  ];
  if (remap?.remap_type === remapType.values.GHOST) {
    try {
      readGhost(remap.remap_id, session.images);
      return [];
    } catch (error) {
      if (error instanceof ImageError) return [error];
      throw error;
    }
  }
  if (remap?.remap_type !== remapType.values.LINKED)
    return refuse(
      "FILE_KIND_UNSUPPORTED",
      "files of processes that are gone are not restored yet",
      "Restore with the tool that made the images",
    );
  const link = session.fileEntry(remap.remap_id)?.reg?.name;
  if (link === undefined)
    return refuse("IMAGE_BAD_REFERENCE", `files.img has no file ${remap.remap_id}, its temporary link`, "Dump the process again");
  if (lstatSync(link, { throwIfNoEntry: false }) !== undefined) return [];
  return refuse("FILE_GONE", `its temporary link "${link}" is gone`, "Dump the process again: the link serves one restore only");
}

/** Removes the temporary links that the dump made; they have served. */
export function removeLinks(session: RestoreSession): void {
  for (const link of remapsOf(session).links()) {
    try {
      unlinkSync(link);
    } catch (error) {
      session.warn(`the temporary link "${link}" cannot be removed: ${(error as Error).message}`);
    }
  }
}
