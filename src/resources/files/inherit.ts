/**
 * Files from outside: what the user keeps out of the images with --external, and hands over with --inherit-fd.
 *
 * A regular file is named `file[MNT:INODE]` and a terminal `tty[RDEV:DEV]` (all hexadecimal: the mount as in fdinfo, the inode
 * number, the devices as in stat(2)), a pipe `pipe:[INODE]`, a socket `socket:[INODE]`, a memfd `/memfd:NAME`, and any file
 * with a path by that path without its leading slash.
 *
 * A process gets the very open file that was handed over, with the position it is at. Only where it could not be used as the
 * process used its own (for reading only, blocking) another open file of the same thing is made.
 */
import { fstatSync } from "node:fs";
import { readlinkSync } from "../../linux/named-files.js";
import { KernelError, UsageError } from "../../errors.js";
import { dupFrom, getStatusFlags, setStatusFlags } from "../../linux/fcntl.js";
import {
  AT_FDCWD,
  O_ACCMODE,
  O_APPEND,
  O_CLOEXEC,
  O_DIRECT,
  O_NOCTTY,
  O_NONBLOCK,
  O_PATH,
  O_RDWR,
  SEEK_CUR,
  SEEK_SET,
  lseek,
  openat,
} from "../../linux/files.js";
import type { DumpSession, Fd, FileKind, RestoreSession } from "../part.js";
import type { FileEntry } from "./table.schema.js";

/** Name of a file for --external. */
export function externalKey(file: { mntId: number; ino: bigint }): string {
  return `file[${file.mntId.toString(16)}:${file.ino.toString(16)}]`;
}

export function isExternal(key: string, { options }: Pick<DumpSession, "options">): boolean {
  return options.external.includes(key);
}

/** What was handed over for one restore, and which of it something was found for. */
interface HandedOver {
  readonly byKey: ReadonlyMap<string, Fd>;
  readonly used: Set<string>;
}

const parsed = new WeakMap<RestoreSession, HandedOver>();

function handedOver(session: RestoreSession): HandedOver {
  let all = parsed.get(session);
  if (all === undefined) {
    all = { byKey: parseAll(session.options.inheritFd), used: new Set() };
    parsed.set(session, all);
  }
  return all;
}

/** The descriptor that was handed over for one of `keys`. */
export function inheritedFd(session: RestoreSession, ...keys: readonly string[]): Fd | undefined {
  const { byKey, used } = handedOver(session);
  for (const key of keys) {
    const fd = byKey.get(key);
    if (fd === undefined) continue;
    used.add(key);
    return fd;
  }
  return undefined;
}

/** Names of what was handed over and nothing in the images is called by. */
export function unusedInherited(session: RestoreSession): string[] {
  const { byKey, used } = handedOver(session);
  return [...byKey.keys()].filter((key) => !used.has(key));
}

/** The descriptor that was handed over for an open file of the images. */
export function inheritedFor(entry: FileEntry, kind: FileKind<unknown>, session: RestoreSession): Fd | undefined {
  if (session.options.inheritFd.length === 0) return undefined;
  return inheritedFd(session, ...(kind.outside?.names(entry[kind.field], session) ?? []));
}

/** A descriptor of ours for what was handed over, to be used with these flags. */
export function takeInherited(inherited: Fd, flags: number): Fd {
  const has = getStatusFlags(inherited);
  const mode = has & O_ACCMODE;
  const isOpenedFor = mode === O_RDWR || mode === (flags & O_ACCMODE) || (has & O_PATH) !== 0;
  const isAlike = ((flags ^ has) & O_NONBLOCK) === 0 && (flags & ~has & (O_APPEND | O_DIRECT)) === 0;
  if (isOpenedFor && isAlike) return dupFrom(inherited, 0);
  const wanted = (flags & (O_ACCMODE | O_NONBLOCK | O_APPEND | O_DIRECT)) | (has & O_APPEND);
  if (!canBeOpenedAgain(inherited)) {
    const fd = dupFrom(inherited, 0);
    setStatusFlags(fd, (has & ~O_NONBLOCK) | (flags & O_NONBLOCK));
    return fd;
  }
  // No opening waits for the other end of a pipe.
  const fd = openat(AT_FDCWD, `/proc/self/fd/${inherited}`, { flags: wanted | O_NONBLOCK | O_CLOEXEC | O_NOCTTY });
  setStatusFlags(fd, wanted);
  if (fstatSync(inherited).isFile()) lseek(fd, BigInt(lseek(inherited, 0n, SEEK_CUR) ?? 0), SEEK_SET);
  return fd;
}

/** Sockets cannot, and the master of a pseudo-terminal would be that of another one. */
function canBeOpenedAgain(fd: Fd): boolean {
  const stat = fstatSync(fd);
  return stat.isFile() || stat.isFIFO() || (stat.isCharacterDevice() && !/\/ptmx$/.test(readlinkSync(`/proc/self/fd/${fd}`)));
}

/** Keys under which a file of this path may have been handed over. */
export function pathKeys(path: string): string[] {
  return [path, path.replace(/^\//, "")];
}

const usage = (message: string, remedy: string) => new UsageError({ code: "OPTION_BAD_VALUE", message, remedy: [remedy] });

function parseAll(texts: readonly string[]): ReadonlyMap<string, Fd> {
  const all = new Map<string, Fd>();
  for (const text of texts) {
    const [key, fd] = parse(text);
    if (all.has(key)) throw usage(`--inherit-fd hands over "${key}" twice`, "Hand over one descriptor for each resource");
    all.set(key, fd);
  }
  return all;
}

function parse(text: string): [string, Fd] {
  const [, number, key] = /^fd\[(\d+)\]:(.+)$/.exec(text) ?? [];
  if (number === undefined || key === undefined)
    throw usage(`--inherit-fd "${text}" has not the form fd[NUMBER]:RESOURCE`, "As in --inherit-fd fd[7]:tmp/file");
  try {
    getStatusFlags(Number(number));
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    throw usage(
      `--inherit-fd "${text}" names descriptor ${number}, which is not open`,
      "Open it before the restore, for instance with 7<>file in a shell",
    );
  }
  return [key, Number(number)];
}
