/**
 * /proc/PID/fdinfo/N, proc_pid_fdinfo(5): position, flags, mount, and lines that depend on the kind of file.
 */
import { procTextError } from "./text.js";

/** An fdinfo file. */
export interface FdInfo {
  /** Flags of open(2), octal in the text; O_CLOEXEC is the descriptor's. */
  readonly flags: number;
  readonly pos: bigint;
  readonly mntId: number;
  readonly ino: bigint | undefined;
  /** Every line, without its newline. */
  readonly lines: readonly string[];
}

const O_CLOEXEC = 0o2000000;

/** Takes the text apart; `path` is for messages. */
export function parseFdInfo(text: string, path: string): FdInfo {
  const lines = text.split("\n").filter((line) => line !== "");
  const field = (name: string) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
  const flags = field("flags");
  const pos = field("pos");
  if (flags === undefined || pos === undefined) throw procTextError(path, "it is cut off");
  const ino = field("ino");
  return {
    flags: Number.parseInt(flags, 8),
    pos: BigInt(pos),
    mntId: Number.parseInt(field("mnt_id") ?? "-1", 10),
    ino: ino === undefined ? undefined : BigInt(ino),
    lines,
  };
}

/** Text of the line `name: …`, or undefined. */
export function fdInfoField(info: FdInfo, name: string): string | undefined {
  return info.lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
}

/** Whether the descriptor is close-on-exec. */
export function isCloseOnExec(info: FdInfo): boolean {
  return (info.flags & O_CLOEXEC) !== 0;
}
