/**
 * /proc/PID/fdinfo/N, proc_pid_fdinfo(5): position, flags, mount, locks, and lines that depend on the kind of file.
 *
 * What the lines of each kind say is in fdinfo-kinds.ts.
 */
import { type FileLock, parseLock } from "./locks.js";
import { procTextError, utf8 } from "./text.js";

/** An fdinfo file. */
export interface FdInfo {
  /** Flags of open(2), octal in the text; O_CLOEXEC is the descriptor's. */
  readonly flags: number;
  readonly pos: bigint;
  /** Id of the mount (mountinfo), -1 where the kernel does not tell. */
  readonly mntId: number;
  /** Inode number, since 5.14. */
  readonly ino: bigint | undefined;
  /** Every line, without its newline. */
  readonly lines: readonly string[];
}

const O_CLOEXEC = 0o2000000;
/** What most files say, and nothing else. */
const PLAIN = /^pos:\t(\d+)\nflags:\t([0-7]+)\nmnt_id:\t(\d+)\nino:\t(\d+)\n$/;
const PLAIN_LINES = 4;

/** Takes the bytes apart; `path` is for messages. */
export function parseFdInfo(bytes: Buffer, path: string): FdInfo {
  const text = utf8(bytes.toString("latin1"));
  const plain = PLAIN.exec(text);
  if (plain !== null) {
    const [, pos = "", flags = "", mntId = "", ino = ""] = plain;
    const lines = text.split("\n");
    lines.pop();
    return { flags: Number.parseInt(flags, 8), pos: BigInt(pos), mntId: Number.parseInt(mntId, 10), ino: BigInt(ino), lines };
  }
  const lines = text.split("\n");
  if (lines.pop() !== "") throw procTextError(path, "it is cut off");
  const pos = value(lines, "pos");
  const flags = value(lines, "flags");
  if (flags === undefined || pos === undefined || !/^[0-7]+$/.test(flags) || !/^-?\d+$/.test(pos)) {
    throw procTextError(path, "it has no position or no flags");
  }
  const ino = value(lines, "ino");
  return {
    flags: Number.parseInt(flags, 8),
    pos: BigInt(pos),
    mntId: Number.parseInt(value(lines, "mnt_id") ?? "-1", 10),
    ino: ino === undefined ? undefined : BigInt(ino),
    lines,
  };
}

function value(lines: readonly string[], name: string): string | undefined {
  const head = `${name}:`;
  for (const line of lines) if (line.startsWith(head)) return line.slice(head.length).trim();
  return undefined;
}

/** Text of the line `name: …`, or undefined. */
export function fdInfoField(info: FdInfo, name: string): string | undefined {
  return value(info.lines, name);
}

/** Whether the descriptor is close-on-exec. */
export function isCloseOnExec(info: FdInfo): boolean {
  return (info.flags & O_CLOEXEC) !== 0;
}

/** Whether it says nothing but what all files have. */
export function isPlain(info: FdInfo): boolean {
  return info.lines.length <= PLAIN_LINES;
}

/** Locks and leases taken through this descriptor (or, POSIX ones, by its process on the same file). */
export function fdInfoLocks(info: FdInfo): FileLock[] {
  if (isPlain(info)) return [];
  return info.lines.filter((line) => line.startsWith("lock:")).map((line) => parseLock(line.slice(5), "fdinfo"));
}
