/**
 * Processes that fill memory: the lazy-pages daemon, to which a restore connects, and the one that `restore --lazy` starts itself.
 */
import { closeSync, constants, openSync, unlinkSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { AF_UNIX } from "../../linux/addresses.js";
import { SOCK_CLOEXEC, SOCK_STREAM, accept4, bind, listen, socket } from "../../linux/sockets.js";
import { POLLIN, waitFor, writeWhole } from "../../linux/streams.js";
import { faultPoint } from "../fault.js";
import type { Logger } from "../log.js";
import { connectTo } from "../page-server/connect.js";
import type { PeerAddress } from "../page-server/options.js";
import { LAZY_SOCKET } from "./channel.js";
import { Filler } from "./filler.js";
import { RemotePages } from "./remote.js";
import { LazyImages } from "./source.js";

const NO_LIMIT = { timeoutMs: -1 };

/** Waits for a restore at `lazy-pages.socket` in the work directory. */
export function listenForRestore(workDir: string): number {
  const fd = socket({ family: AF_UNIX, type: SOCK_STREAM | SOCK_CLOEXEC });
  const directory = openSync(workDir, constants.O_RDONLY | constants.O_DIRECTORY);
  // By descriptor: the path of a socket may have no more than 107 bytes.
  const path = `/proc/self/fd/${directory}/${LAZY_SOCKET}`;
  try {
    removeSocket(path);
    bind(fd, { family: "unix", name: Buffer.from(path) });
    listen(fd, 1);
    return fd;
  } catch (cause) {
    closeSync(fd);
    throw new UsageError({
      code: "LAZY_SOCKET_UNUSABLE",
      message: `Cannot wait for a restore at "${workDir}/${LAZY_SOCKET}": ${cause instanceof Error ? cause.message : String(cause)}`,
      remedy: ["Name a directory that can be written with --work-dir"],
      cause,
    });
  } finally {
    closeSync(directory);
  }
}

/** One left by a daemon that was killed is in the way. */
function removeSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // There is none.
  }
}

export interface DaemonOptions {
  readonly imagesDir: string;
  readonly workDir: string;
  /** Where pages are that the images do not have. */
  readonly pageServer: PeerAddress | undefined;
}

/** Serves the restore that connects to `listening`, until all memory is filled. */
export function serveRestore(listening: number, options: DaemonOptions, log: Logger): void {
  const images = new LazyImages(options.imagesDir);
  try {
    // Connected now: what is wrong with it must show before a process depends on it.
    const { pageServer } = options;
    const remote = pageServer === undefined ? undefined : new RemotePages(() => connectTo(pageServer, images.anybody()));
    waitFor({ fd: listening, events: POLLIN }, NO_LIMIT);
    const channel = accept4(listening, SOCK_CLOEXEC);
    removeSocket(`${options.workDir}/${LAZY_SOCKET}`);
    closeSync(listening);
    new Filler(channel, { images, remote, log }).run(() => closeSync(channel));
  } finally {
    images.close();
  }
}

/** Fills the memory of the restore at the other end of `channel`, and tells it when it has taken over everything. */
export function fillForRestore(channel: number, imagesDir: string, log: Logger): void {
  const images = new LazyImages(imagesDir);
  try {
    new Filler(channel, { images, remote: undefined, log }).run(() => {
      faultPoint("fill-taken-over");
      writeWhole(channel, Buffer.alloc(1), { timeoutMs: 1000 });
      closeSync(channel);
    });
  } finally {
    images.close();
  }
}
