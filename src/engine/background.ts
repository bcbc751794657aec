/**
 * Processes of Floe's own that stay behind: servers that go to the background, and helpers with an event loop.
 *
 * Started by posix_spawn(2): the engine waits for processes itself, which a runtime's own handling of children would disturb.
 */
import { setDescriptorFlags } from "../linux/fcntl.js";
import { posixSpawn, syscallNumber } from "../linux/ffi/native.unsafe.js";
import { kernelError } from "../linux/errno.js";
import { SYS } from "../linux/syscalls.js";
import { constants, closeSync, openSync } from "node:fs";

const FD_CLOEXEC = 1;
/** The word by which Floe knows that it is such a process. */
export const BACKGROUND = "background";

/** Kinds of such processes, and the program of each. */
export type BackgroundTask = "page-server" | "lazy-pages" | "fill" | "tls-relay";

/** Starts one; it inherits `fds` under the same numbers, and `order` as JSON. Returns its pid. */
export function startBackground(task: BackgroundTask, order: unknown, fds: readonly number[]): number {
  const script = process.argv[1] ?? "";
  const isEmbedded = script === "" || script.startsWith("/$bunfs/");
  const own = isEmbedded ? [] : [...process.execArgv, script];
  // Whatever name we were called by: this front end is floe's.
  const argv = [process.execPath, ...own, BACKGROUND, task, JSON.stringify(order)];
  const env = Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
  const inherited = [...fds, 0, 1, 2];
  const flags = new Map(inherited.map((fd) => [fd, getFlags(fd)]));
  for (const fd of inherited) if ((flags.get(fd) ?? -1) >= 0) setDescriptorFlags(fd, 0);
  try {
    const pid = posixSpawn(process.execPath, argv, env);
    if (pid < 0) throw kernelError(`posix_spawn(${process.execPath} ${BACKGROUND} ${task})`, pid);
    return pid;
  } finally {
    for (const [fd, old] of flags) if (old >= 0) setDescriptorFlags(fd, old);
  }
}

const F_GETFD = 1;

function getFlags(fd: number): number {
  return syscallNumber(SYS.fcntl, fd, F_GETFD);
}

/** What such a process does first: a session of its own, nothing of the terminal, and no descriptor but its own. */
export function becomeBackground(fds: readonly number[]): void {
  syscallNumber(SYS.setsid);
  for (const fd of fds) setDescriptorFlags(fd, FD_CLOEXEC);
  const nothing = openSync("/dev/null", constants.O_RDWR);
  for (const fd of [0, 1, 2]) syscallNumber(SYS.dup3, nothing, fd, 0);
  if (nothing > 2) closeSync(nothing);
}
