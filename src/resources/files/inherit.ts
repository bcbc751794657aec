/**
 * Files from outside: what the user keeps out of the images with --external, and hands over with --inherit-fd.
 *
 * A regular file is named `file[MNT:INODE]` (both hexadecimal: the mount as in fdinfo, the inode number), a pipe
 * `pipe:[INODE]`, and any file with a path by that path without its leading slash.
 */
import { fstatSync } from "node:fs";
import { UsageError } from "../../errors.js";
import type { DumpSession, Fd, RestoreSession } from "../part.js";

/** Name of a file for --external. */
export function externalKey(file: { mntId: number; ino: bigint }): string {
  return `file[${file.mntId.toString(16)}:${file.ino.toString(16)}]`;
}

export function isExternal(key: string, session: DumpSession): boolean {
  return session.options.external.includes(key);
}

const parsed = new WeakMap<RestoreSession, ReadonlyMap<string, Fd>>();

/** The descriptor that was handed over for one of `keys`. */
export function inheritedFd(session: RestoreSession, ...keys: readonly string[]): Fd | undefined {
  const all = parsed.get(session) ?? new Map(session.options.inheritFd.map(parse));
  parsed.set(session, all);
  for (const key of keys) {
    const fd = all.get(key);
    if (fd !== undefined) return fd;
  }
  return undefined;
}

/** Keys under which a file of this path may have been handed over. */
export function pathKeys(path: string): string[] {
  return [path, path.replace(/^\//, "")];
}

function parse(text: string): [string, Fd] {
  const [, number, key] = /^fd\[(\d+)\]:(.+)$/.exec(text) ?? [];
  const usage = (message: string, remedy: string) => new UsageError({ code: "OPTION_BAD_VALUE", message, remedy: [remedy] });
  if (number === undefined || key === undefined)
    throw usage(`--inherit-fd "${text}" has not the form fd[NUMBER]:RESOURCE`, "As in --inherit-fd fd[7]:tmp/file");
  try {
    fstatSync(Number(number));
  } catch {
    throw usage(
      `--inherit-fd "${text}" names descriptor ${number}, which is not open`,
      "Open it before the restore, for instance with 7<>file in a shell",
    );
  }
  return [key, Number(number)];
}
