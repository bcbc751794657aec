/**
 * Files that have a path: regular files, directories, simple devices like /dev/null, and anything opened with O_PATH.
 *
 * Read from   readlink(2) of /proc/PID/fd/N, stat(2), fdinfo
 * Made with   openat(2) of the path with the saved flags, lseek(2)
 */
import { type BigIntStats, closeSync, lstatSync, statSync } from "node:fs";
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
import type { Fd, FileKind, FileUse, Problem, RestoreSession } from "../part.js";
import { readBuildId } from "./build-id.js";
import { externalKey, inheritedFd, isExternal, pathKeys } from "./inherit.js";
import { isLeased, noteLease } from "./locks.js";
import type { FownEntry } from "./owner.schema.js";
import type { RegFileEntry } from "./regular.schema.js";
import { isGone, isOfProc, noteGone, procOwner, whileThere, willBeThere } from "./proc-path.js";
import { checkRemapped, isRemapped, nameOf, openRemapped } from "./remap.js";

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
const RWX = 0o7777;

export function isRegular(stat: BigIntStats): boolean {
  return (stat.mode & S_IFMT) === S_IFREG;
}

/** /dev/null, zero, full, random, urandom, kmsg: devices without a state of their own in an open file. */
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
}

const buildIds = new Map<string, readonly number[] | undefined>();

/** Reads the build id of a file once per state of it. */
export function buildIdOf(openPath: string, stat: BigIntStats): readonly number[] | undefined {
  const key = `${stat.dev}/${stat.ino}/${stat.ctimeNs}/${stat.size}`;
  if (!buildIds.has(key)) buildIds.set(key, readBuildId(openPath));
  return buildIds.get(key);
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
    const id = file.openPath !== undefined && (file.flags & O_PATH) === 0 ? buildIdOf(file.openPath, stat) : undefined;
    if (id !== undefined) entry.build_id = [...id];
  }
  return entry;
}

/** Opens the file of an entry as it was; `flags` other than the saved ones for mappings. */
export function openRegular(entry: RegFileEntry, session: RestoreSession, flags = entry.flags): Fd {
  let how = (flags & ~ONCE) | O_CLOEXEC | O_NOCTTY;
  // An O_PATH descriptor of a symbolic link is of the link itself.
  if (flags & O_PATH && (BigInt(entry.mode ?? 0) & S_IFMT) === S_IFLNK) how |= O_NOFOLLOW;
  const proc = procOwner(entry.name);
  const openByName = () => openat(AT_FDCWD, entry.name, { flags: how & UNNAMED_FILE ? how & ~O_TMPFILE : how });
  const inherited = inheritedFd(session, ...pathKeys(entry.name));
  let fd: Fd;
  if (inherited !== undefined) fd = openat(AT_FDCWD, `/proc/self/fd/${inherited}`, { flags: how & ~O_NOFOLLOW });
  else if (proc !== undefined && isGone(proc, session)) fd = whileThere(proc, openByName);
  else fd = isRemapped(entry.id, session) ? openRemapped(entry, session, how) : openByName();
  if ((flags & O_PATH) === 0 && entry.pos !== 0n) {
    try {
      lseek(fd, entry.pos, SEEK_SET);
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
    const openPath = `/proc/self/fd/${file.local}`;
    const process = { pid: task.traced.pid, comm: task.comm };
    const external = externalKey({ mntId: info.mntId, ino: stat.ino });
    if (isExternal(external, session)) {
      return { ...describeFile({ id, name: external, flags: info.flags, pos: info.pos, fown, stat, openPath: undefined }), ext: true };
    }
    noteLease(info, stat, session);
    const name = nameOf({ id, link, stat, openPath, process, what: `fd ${file.fd}` }, session);
    if (name === undefined) return undefined;
    noteGone(id, name, session);
    const mayBeRead = !isLeased(stat, session) && !isOfProc(name);
    return describeFile({ id, name, flags: info.flags, pos: info.pos, fown, stat, openPath: mayBeRead ? openPath : undefined });
  },
  open: (entry, session) => openRegular(entry, session),
  check(entry, session, use) {
    const inherited = inheritedFd(session, ...pathKeys(entry.name));
    if (inherited !== undefined) return checkFile({ ...entry, name: `/proc/self/fd/${inherited}` }, session, use);
    if (entry.ext === true) return [notHandedOver(entry, use)];
    if (willBeThere(entry.name, session)) return [];
    return isRemapped(entry.id, session) ? checkRemapped(entry, session, use) : checkFile(entry, session, use);
  },
};

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

/** What a file must still be, or the program would go on with something else than it knew. */
function checkFile(entry: RegFileEntry, session: RestoreSession, use: FileUse): Problem[] {
  const refuse = (code: string, because: string, ...remedy: [string, ...string[]]) => [
    new Refusal({ code, process: use.process, resource: `${use.what} "${entry.name}"`, because, remedy }, "restore"),
  ];
  let stat: BigIntStats;
  try {
    const follow = !(entry.flags & O_PATH && (BigInt(entry.mode ?? 0) & S_IFMT) === S_IFLNK);
    stat = follow ? statSync(entry.name, { bigint: true }) : lstatSync(entry.name, { bigint: true });
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === "ENOENT" ? "the file is gone" : (error as Error).message;
    return refuse("FILE_GONE", why, `Put the file back at "${entry.name}"`);
  }
  if (entry.mode !== undefined && (stat.mode & S_IFMT) !== (BigInt(entry.mode) & S_IFMT)) {
    return refuse("FILE_CHANGED", "something of another type has its name now", "Put the original file back");
  }
  const { general, byPath } = session.options.filePolicy;
  const policy = byPath.get(entry.name) ?? general;
  if (!isRegular(stat) || policy === "ignore") return [];
  if (entry.size !== undefined && stat.size !== entry.size && !(policy === "grown" && stat.size > entry.size)) {
    const other = stat.size > entry.size ? "grown" : "ignore";
    return refuse(
      "FILE_CHANGED",
      `its size was ${entry.size} bytes and is ${stat.size} now`,
      "Put back the file as it was at the time of the dump",
      `Accept it as it is with --file-policy ${entry.name}=${other}`,
    );
  }
  if (!session.options.skipFileRwxCheck && entry.mode !== undefined && (Number(stat.mode) & RWX) !== (entry.mode & RWX)) {
    return refuse(
      "FILE_MODE_CHANGED",
      `its mode was ${(entry.mode & RWX).toString(8)} and is ${(Number(stat.mode) & RWX).toString(8)} now`,
      `Give it its mode back: chmod ${(entry.mode & RWX).toString(8)} ${entry.name}`,
      "Allow other modes with --skip-file-rwx-check",
    );
  }
  if (session.options.fileValidation !== "buildid" || entry.build_id.length === 0) return [];
  const id = buildIdOf(entry.name, stat);
  if (id !== undefined && id.length === entry.build_id.length && id.every((word, i) => word === entry.build_id[i])) return [];
  return refuse(
    "FILE_CHANGED",
    "it is another build of the program or library than at the time of the dump",
    "Install the build that was in use at the time of the dump",
  );
}
