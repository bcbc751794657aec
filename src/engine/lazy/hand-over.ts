/**
 * The restore's side of a lazy restore: whoever fills the memory gets a userfaultfd of each address space, and all of them before
 * any process goes on.
 */
import { closeSync, constants, openSync } from "node:fs";
import { resolve } from "node:path";
import { KernelError, UsageError } from "../../errors.js";
import { AF_UNIX } from "../../linux/addresses.js";
import { SOCK_CLOEXEC, SOCK_STREAM, pollOnce, socketpair } from "../../linux/sockets.js";
import { POLLHUP, readWhole } from "../../linux/streams.js";
import type { Filled } from "../../resources/memory/finish.js";
import { registerLazy } from "../../resources/memory/lazy.js";
import { startBackground } from "../background.js";
import type { RestoreOptions } from "../options.js";
import { connectToDaemon, sendEnd, sendGuard, sendSpace } from "./channel.js";
import { startGuard } from "./guard.js";

/** What the process that fills the memory is told. */
export interface FillOrder {
  readonly channel: number;
  readonly imagesDir: string;
  /** The descriptor that `imagesDir` is, where the images came over a stream. */
  readonly received: number | undefined;
  readonly logFile: string | undefined;
  readonly verbosity: number | undefined;
}

/** EPIPE, ECONNRESET */
const GONE: readonly number[] = [32, 104];
/** So long our own process may take to come up. */
const START_MS = 30_000;

export class LazyHandOver {
  readonly #channel: number;
  readonly #isOwn: boolean;
  /** Ours until somebody else surely has them: with the last one gone, the kernel would fill in zeros. */
  readonly #uffds: number[] = [];
  readonly #pids: number[] = [];
  #isClosed = false;

  /** `directory`: where the images are, that of the options or one that a stream was received into. */
  constructor(options: RestoreOptions, directory: string) {
    this.#isOwn = options.lazyPages === "own";
    this.#channel = this.#isOwn ? startOwn(options, directory) : connectToDaemon(options.workDir);
  }

  /** Registers the memory that comes later, of each address space. From here on a process may wait for a page. */
  register(filled: readonly Filled[]): void {
    for (const { task, space, owner } of filled) {
      // A daemon counts the processes of the images; ours takes what comes.
      if (owner !== undefined || (this.#isOwn && space.later.length === 0)) continue;
      const uffd = registerLazy(task, space.later);
      this.#uffds.push(uffd);
      this.#pids.push(task.pid);
      this.#tell(() => sendSpace(this.#channel, space.pid, uffd));
    }
    if (this.#isOwn && this.#uffds.length > 0) this.#guard();
  }

  /** Whoever waits for a page waits for ever if nobody fills it: also one of which we are waiting that it does something for us. */
  #guard(): void {
    const guard = startGuard(this.#pids, this.#uffds);
    try {
      this.#tell(() => sendGuard(this.#channel, guard));
    } finally {
      closeSync(guard.pipe);
      closeSync(guard.shelf);
    }
  }

  /** What stands behind a failure: undefined if whoever fills the memory is still there. */
  reasonFor(failure: unknown): UsageError | undefined {
    if (this.#isClosed || (pollOnce(this.#channel, 0) & POLLHUP) === 0) return undefined;
    return lost(this.#isOwn, failure);
  }

  /** Everything is done, and the processes are about to go on. */
  conclude(): void {
    this.#tell(() => {
      sendEnd(this.#channel);
      if (this.#isOwn && readWhole(this.#channel, Buffer.alloc(1), { timeoutMs: START_MS }) !== 1) throw lost(this.#isOwn);
    });
    this.close();
  }

  /** Whoever is to fill the memory may end at any time. */
  #tell(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof KernelError && GONE.includes(error.errno)) throw lost(this.#isOwn, error);
      throw error;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const fd of this.#uffds.splice(0)) closeSync(fd);
    closeSync(this.#channel);
  }
}

function lost(isOwn: boolean, cause?: unknown): UsageError {
  return new UsageError({
    code: "LAZY_DAEMON_LOST",
    message: "Cannot restore lazily: the process that was to fill the memory ended",
    remedy: isOwn
      ? ["Restore without --lazy", "Look at its log: the log file's name and .lazy"]
      : ["Look at the log of the lazy-pages daemon", "Restore without --lazy-pages"],
    cause,
  });
}

function startOwn({ stream, lazyLog }: RestoreOptions, directory: string): number {
  const [own, theirs] = socketpair({ family: AF_UNIX, type: SOCK_STREAM | SOCK_CLOEXEC });
  // What came over a stream has no path: the directory lives as long as somebody has it open, now the one who fills.
  const received = stream === undefined ? [] : [openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)];
  const [root] = received;
  const imagesDir = root === undefined ? resolve(directory) : `/proc/self/fd/${root}`;
  try {
    const order: FillOrder = { channel: theirs, imagesDir, received: root, logFile: lazyLog?.file, verbosity: lazyLog?.level };
    startBackground("fill", order, [theirs, ...received]);
    return own;
  } finally {
    for (const fd of [theirs, ...received]) closeSync(fd);
  }
}
