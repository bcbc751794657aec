/**
 * Files that have a path: regular files, directories, simple devices like /dev/null, and anything opened with O_PATH.
 *
 * Read from   readlink(2) of /proc/PID/fd/N, stat(2), fdinfo
 * Made with   openat(2) of the path with the saved flags, lseek(2)
 */
import { type BigIntStats, closeSync } from "node:fs";
import { Refusal } from "../../errors.js";
import {
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOCTTY,
  O_NOFOLLOW,
  O_PATH,
  O_TMPFILE,
  O_TRUNC,
  SEEK_SET,
  lseek,
  openat,
} from "../../linux/files.js";
import { MANY_FILES, type ToOpen, isPlainName } from "../../linux/many-files.js";
import type { DumpSession, Fd, FileKind, FileUse, OpenFile, RestoreSession } from "../part.js";
import { policyOf } from "../policy.js";
import { isGuarded } from "../watches/guards.js";
import { isHeard } from "../watches/listeners.js";
import { carry } from "./carry.js";
import { carriedPath, checkCarried } from "./carried.js";
import { CHECKSUM_OF_BLOCKS, stepFor } from "./checksum.js";
import { externalKey, inheritedFd, isExternal, pathKeys } from "./inherit.js";
import { isLeased, noteLease } from "./locks.js";
import { leadsTo } from "./hidden.js";
import type { FownEntry } from "./owner.schema.js";
import type { RegFileEntry } from "./regular.schema.js";
import {
  isGone,
  isLostInProc,
  isOfProc,
  lateFile,
  lostInProc,
  nameOfGone,
  noteGone,
  procOwner,
  whileOpen,
  whileThere,
  willBeThere,
} from "./proc-path.js";
import { goOnInLog, isKernelLog, placeInLog } from "./kernel-log.js";
import { checkRemapped, isRemapped, nameOf, openRemapped } from "./remap.js";
import { replaceStandIn, standIn } from "./replace.js";
import { checkFile, identityOf, isRegular, knownIdentity, lookAtMany } from "./unchanged.js";

const AT_FDCWD = -100;
const FASYNC = 0o20000;
/** The bit of O_TMPFILE that is its own; such a file may have been given a name since. */
const UNNAMED_FILE = O_TMPFILE & ~O_DIRECTORY;
/** Flags that act when a file is opened, not while it is open. */
const ONCE = O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC | FASYNC;
const S_IFMT = 0o170000n;
const S_IFREG = 0o100000n;
const S_IFDIR = 0o040000n;
const S_IFCHR = 0o020000n;
const S_IFLNK = 0o120000n;
const MEM_MAJOR = 1n;

/** /dev/null, zero, full, random, urandom: devices without a state of their own in an open file; kmsg, whose place is in kernel-log.ts. */
function isMemoryDevice(stat: BigIntStats): boolean {
  return (stat.mode & S_IFMT) === S_IFCHR && stat.rdev >> 8n === MEM_MAJOR;
}

/** What {@link describeFile} writes down. */
export interface Description {
  readonly id: number;
  readonly name: string;
  readonly flags: number;
  readonly pos: bigint;
  readonly fown: FownEntry;
  readonly stat: BigIntStats;
  /** Where the contents can be read, for the build id; undefined when the file must not be opened. */
  readonly openPath: string | undefined;
  /** Whether to tell it by a checksum when it has no build id. */
  readonly wantsChecksum?: boolean;
  /** The tree would be told of it when the file is opened. */
  readonly isHeard?: boolean;
}

/** The message for a file with a path. */
export function describeFile(file: Description): RegFileEntry {
  const { stat } = file;
  const entry: RegFileEntry = {
    id: file.id,
    flags: file.flags,
    pos: file.pos,
    fown: file.fown,
    name: file.name,
    mode: Number(stat.mode),
    build_id: [],
  };
  if (isRegular(stat)) {
    entry.size = stat.size;
    const isKnown = file.openPath !== undefined && (file.flags & O_PATH) === 0;
    const { buildId, checksum } = isKnown ? identityOf(file.openPath, stat, file) : knownIdentity(stat);
    if (buildId !== undefined) entry.build_id = [...buildId];
    else if (file.wantsChecksum === true && checksum !== undefined)
      Object.assign(entry, { checksum, checksum_config: CHECKSUM_OF_BLOCKS, checksum_parameter: stepFor(Number(stat.size)) });
  }
  return entry;
}

function howToOpen(entry: RegFileEntry, flags: number): number {
  const how = (flags & ~ONCE) | O_CLOEXEC | O_NOCTTY;
  // An O_PATH descriptor of a symbolic link is of the link itself.
  return flags & O_PATH && (BigInt(entry.mode ?? 0) & S_IFMT) === S_IFLNK ? how | O_NOFOLLOW : how;
}

/** A file that was opened without a name has one now. */
function byNameFlags(how: number): number {
  return how & UNNAMED_FILE ? how & ~O_TMPFILE : how;
}

/** Whether nothing but its name leads to the file of an entry. */
function isByName(entry: RegFileEntry, session: RestoreSession): boolean {
  const isPlain = entry.ext !== true && entry.carried === undefined && entry.log_next === undefined;
  return isPlain && !isOfProc(entry.name) && !isRemapped(entry.id, session);
}

/** Looks at all files that are had by their names, at once. */
export function lookAtRegular(entries: readonly RegFileEntry[], session: RestoreSession): void {
  if (entries.length < MANY_FILES) return;
  lookAtMany(
    entries.filter((entry) => isByName(entry, session)),
    session,
  );
}

/** How a file is opened that is had by its name alone; undefined: it takes more than that. */
export function plainOpening(entry: RegFileEntry, session: RestoreSession): ToOpen | undefined {
  if (session.options.inheritFd.length > 0 || !isByName(entry, session) || !isPlainName(entry.name)) return undefined;
  const flags = byNameFlags(howToOpen(entry, entry.flags));
  return { path: entry.name, flags, position: (flags & O_PATH) === 0 ? entry.pos : 0n };
}

/** Opens the file of an entry as it was; `flags` other than the saved ones for mappings. */
export function openRegular(entry: RegFileEntry, session: RestoreSession, flags = entry.flags): Fd {
  const how = howToOpen(entry, flags);
  const proc = procOwner(entry.name);
  const openByName = () => openat(AT_FDCWD, carriedPath(entry, session), { flags: byNameFlags(how) });
  const inherited = session.options.inheritFd.length === 0 ? undefined : inheritedFd(session, ...pathKeys(entry.name));
  let fd: Fd;
  if (inherited !== undefined) fd = openat(AT_FDCWD, `/proc/self/fd/${inherited}`, { flags: how & ~O_NOFOLLOW });
  else if (proc !== undefined && isGone(proc, session)) fd = whileThere(proc, openByName);
  else if (isRemapped(entry.id, session)) fd = openRemapped(entry, session, how);
  else fd = openByName();
  if ((flags & O_PATH) === 0) {
    try {
      if (entry.pos !== 0n) lseek(fd, entry.pos, SEEK_SET);
      goOnInLog(fd, entry, session);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }
  return fd;
}

export const regularFiles: FileKind<RegFileEntry> = {
  name: "files/regular",
  rows: ["file.regular", "file.dirs-opath-symlink"],
  type: "REG",
  field: "reg",
  matches({ stat, info }) {
    const format = stat.mode & S_IFMT;
    return format === S_IFREG || format === S_IFDIR || isMemoryDevice(stat) || (info.flags & O_PATH) !== 0;
  },
  dump(file, session) {
    const { id, link, fown, stat, info, task } = file;
    const openPath = wayTo(file);
    const process = { pid: task.traced.pid, comm: task.comm };
    const external = externalKey({ mntId: info.mntId, ino: stat.ino });
    if (isExternal(external, session)) {
      return { ...describeFile({ id, name: external, flags: info.flags, pos: info.pos, fown, stat, openPath: undefined }), ext: true };
    }
    noteLease(info, stat, session);
    const found = nameOf({ id, link, stat, mountId: info.mntId, openPath, process, what: `fd ${file.fd}` }, session);
    if (found === undefined) return undefined;
    const name = nameOfGone(found);
    if (isLostInProc(name, file.isInFlight === true)) {
      session.refuse(lostInProc({ process, what: `fd ${file.fd}`, link }));
      return undefined;
    }
    noteGone(id, name, session);
    const mayBeRead = !isLeased(stat, session) && !isOfProc(name) && !isGuarded(openPath, session);
    const way = { openPath: mayBeRead ? openPath : undefined, isHeard: isHeard(session) };
    const entry = describeFile({ id, name, flags: info.flags, pos: info.pos, fown, stat, ...way });
    return carry({ ...entry, ...placeInLog(file, session) }, { link, stat, openPath, mayBeRead, process, what: `fd ${file.fd}` }, session);
  },
  open: (entry, session) => (lateFile(entry.name, session) === undefined ? openRegular(entry, session) : standIn()),
  finish(entry, at) {
    const { session } = at;
    const late = lateFile(entry.name, session);
    if (late === undefined) return undefined;
    const fd = whileOpen(late, () => openRegular(entry, session));
    session.closeLater(fd);
    replaceStandIn(fd, at.holders); // which is found out when it is asked for
    return fd;
  },
  outside: { names: (entry) => pathKeys(entry.name), flags: (entry) => entry.flags },
  check(entry, session, use) {
    if (entry.ext === true) return [notHandedOver(entry, use)];
    if (willBeThere(entry.name, session)) return [];
    if (isRemapped(entry.id, session)) return checkRemapped(entry, session, use);
    return entry.carried === undefined ? checkFile(entry, session, use) : checkCarried(entry, session, use);
  },
};

/** Whether the message of a plain file follows from what its descriptor says and what is known before the freeze. */
export function isToldByText(
  { link, stat, info }: Pick<OpenFile, "link" | "stat" | "info">,
  by: Pick<DumpSession, "options" | "mounts">,
): boolean {
  const isPlainName =
    !link.endsWith(" (deleted)") && !link.includes("\ufffd") && !isOfProc(link) && !isKernelLog(stat) && (info.flags & O_PATH) === 0;
  const hasPlainName = isPlainName && by.mounts.at(link) === info.mntId && policyOf(link, by.options) !== "carry";
  // Only a file that its name does not lead to can be a private copy.
  return hasPlainName && !isExternal(externalKey({ mntId: info.mntId, ino: stat.ino }), by) && leadsTo(link, stat);
}

/** A path of ours to the file: that of its holder, where any will do. One without a name is got at by a descriptor of ours. */
function wayTo(file: OpenFile): string {
  const needsOurs = file.isInFlight === true || (file.info.flags & O_PATH) !== 0 || file.link.endsWith(" (deleted)");
  return needsOurs ? `/proc/self/fd/${file.local}` : `/proc/${file.task.traced.pid}/fd/${file.fd}`;
}

function notHandedOver(entry: RegFileEntry, use: FileUse): Refusal {
  return new Refusal(
    {
      code: "EXTERNAL_MISSING",
      process: use.process,
      resource: `${use.what} "${entry.name}"`,
      because: "it was left out of the images as external, and nothing has been handed over for it",
      remedy: [`Open a file and hand it over: --inherit-fd fd[N]:${entry.name}`],
    },
    "restore",
  );
}
