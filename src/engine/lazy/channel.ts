/**
 * How a restore hands userfaultfds to whoever fills the memory: over a UNIX stream socket, for each address space its pid (four
 * bytes) and a byte with the descriptor (SCM_RIGHTS), at the end a mark. The same as CRIU does at `lazy-pages.socket`.
 */
import { UsageError } from "../../errors.js";
import { constants, openSync } from "node:fs";
import type { GuardEnds } from "./guard.js";
import { AF_UNIX } from "../../linux/addresses.js";
import { close } from "../../linux/files.js";
import { SOCK_CLOEXEC, SOCK_STREAM, connect, receiveFds, sendFds, socket } from "../../linux/sockets.js";
import { readWhole, writeWhole } from "../../linux/streams.js";

export const LAZY_SOCKET = "lazy-pages.socket";
/** In the place of a pid: the restore is done. */
const END_MARK = 0x52535446;
/** The same, before the two descriptors that lead to a guard: only between processes of Floe. */
const GUARD_MARK = 0x44524147;
const PATIENCE = { timeoutMs: 30_000 };

/** Connects to a lazy-pages daemon. */
export function connectToDaemon(workDir: string): number {
  const directory = openSync(workDir, constants.O_RDONLY | constants.O_DIRECTORY);
  // By descriptor: the path of a socket may have no more than 107 bytes.
  const path = `/proc/self/fd/${directory}/${LAZY_SOCKET}`;
  const fd = socket({ family: AF_UNIX, type: SOCK_STREAM | SOCK_CLOEXEC });
  try {
    connect(fd, { family: "unix", name: Buffer.from(path) });
    return fd;
  } catch (cause) {
    close(fd);
    throw new UsageError({
      code: "LAZY_DAEMON_MISSING",
      message: `Cannot restore with --lazy-pages: nobody serves pages at "${workDir}/${LAZY_SOCKET}"`,
      remedy: ["Start criu lazy-pages with the same --work-dir first", "Use floe restore --lazy, which needs no daemon"],
      cause,
    });
  } finally {
    close(directory);
  }
}

export function sendSpace(fd: number, pid: number, uffd: number): void {
  writeWhole(fd, word(pid), PATIENCE);
  sendFds(fd, [uffd]);
}

export function sendGuard(fd: number, { pipe, shelf }: GuardEnds): void {
  writeWhole(fd, word(GUARD_MARK), PATIENCE);
  sendFds(fd, [pipe, shelf]);
}

export function sendEnd(fd: number): void {
  writeWhole(fd, word(END_MARK), PATIENCE);
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

/** What comes over the channel; undefined: its end. */
export type ChannelMessage = { readonly pid: number; readonly uffd: number } | { readonly guard: GuardEnds } | "end" | undefined;

export function receiveMessage(fd: number): ChannelMessage {
  const bytes = Buffer.alloc(4);
  if (readWhole(fd, bytes, PATIENCE) < bytes.length) return undefined;
  const pid = bytes.readInt32LE(0);
  if (pid === END_MARK) return "end";
  const [uffd, ...others] = receiveFds(fd);
  const [shelf] = others;
  if (pid === GUARD_MARK && uffd !== undefined && shelf !== undefined) return { guard: { pipe: uffd, shelf } };
  for (const other of others) close(other);
  if (uffd === undefined || pid === GUARD_MARK) return undefined;
  return { pid, uffd };
}
