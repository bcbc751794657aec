/**
 * Which processes of a tree that runs on are saved from copy-on-write copies (`resources/memory/snapshot.ts`), and the end of
 * these copies in every case.
 *
 * A copy stands still for a fork: half a millisecond, and 10 to 30 ms for each GiB. Copying ahead (`precopy.ts`) is better for large
 * processes that write little; writing in the freeze for small ones. So a copy is made of what lies in between, of what cannot
 * be copied ahead, and of what writes faster than it can be copied.
 */
import { readFileSync } from "node:fs";
import { readRssBytes } from "../linux/proc/read.js";
import type { Snapshots as SnapshotsOfParts } from "../resources/part.js";
import { killTask } from "../target/seed.js";
import type { TracedTask } from "../target/thread.js";
import { faultPoint } from "./fault.js";
import type { Logger } from "./log.js";
import { memoryRoomBytes } from "./memory-room.js";
import type { DumpOptions } from "./options.js";
import { type PreCopies, runningTree } from "./precopy.js";

/** Writing less takes about as long as making a copy. */
const WORTH_BYTES = 12 << 20;

/** The copies of one dump. */
export class Snapshots implements SnapshotsOfParts {
  readonly #wanted: ReadonlySet<number>;
  readonly #copies = new Set<TracedTask>();

  readonly #log: Logger;
  readonly #isRehearsal: boolean;

  constructor(wanted: ReadonlySet<number>, { log, isRehearsal = false }: { log: Logger; isRehearsal?: boolean }) {
    this.#wanted = wanted;
    this.#log = log;
    this.#isRehearsal = isRehearsal;
  }

  isWanted(pid: number): boolean {
    return this.#wanted.has(pid);
  }

  keep(copy: TracedTask): void {
    this.#copies.add(copy);
    this.#log.debug(`memory of ${copy.comm} is saved from a copy-on-write copy, process ${copy.pid}`);
    if (!this.#isRehearsal) faultPoint("snapshot-copied");
  }

  saving(): void {
    if (!this.#isRehearsal) faultPoint("snapshot-saving");
  }

  end(copy: TracedTask): void {
    if (this.#copies.delete(copy)) killTask(copy);
  }

  close(): void {
    for (const copy of [...this.#copies]) this.end(copy);
  }
}

/** Whether it is worth it to get ready for copies. */
export function mayMakeCopies({ snapshot = "auto", leaveRunning, leaveStopped, tree }: DumpOptions): boolean {
  if (!leaveRunning || leaveStopped || snapshot === "never") return false;
  return snapshot === "always" || runningTree(tree).some((pid) => (privateBytes(pid) ?? 0) >= WORTH_BYTES);
}

/** Chooses the processes, while the tree runs; undefined when there are none, or it is not to run on. */
export function planSnapshots(options: DumpOptions, copies: PreCopies, log: Logger): Snapshots | undefined {
  const { snapshot = "auto", leaveRunning, leaveStopped, tree } = options;
  if (!leaveRunning || leaveStopped || snapshot === "never") return undefined;
  const wanted = new Set<number>();
  let bytes = 0;
  for (const pid of runningTree(tree)) {
    if (copies.byPid.has(pid)) continue;
    const own = privateBytes(pid);
    if (own === undefined || own < (snapshot === "always" ? 0 : WORTH_BYTES)) continue;
    wanted.add(pid);
    bytes += own;
  }
  if (wanted.size === 0) return undefined;
  // What the tree writes while the copies are there takes so much more memory at worst: nobody may be killed for it.
  const room = memoryRoomBytes([...wanted]);
  if (room < bytes) {
    log.info(`no copy-on-write copies are made: they may take ${bytes} bytes more memory, and there are only ${room}`);
    return undefined;
  }
  return new Snapshots(wanted, { log });
}

/** Memory in use that is the process's own, by statm. */
function privateBytes(pid: number): number | undefined {
  try {
    const [, present = 0, shared = 0] = readFileSync(`/proc/${pid}/statm`, "latin1").split(" ").map(Number);
    return (present - shared) * 4096;
  } catch {
    return undefined; // it ended
  }
}

/** Whether a process writes so much while it is copied ahead that it stands still for a shorter time for a copy-on-write copy. */
export function isForkShorter({ snapshot, leaveRunning, leaveStopped }: DumpOptions, pid: number, writtenBytes: number): boolean {
  if (!leaveRunning || leaveStopped || snapshot === "never" || writtenBytes < FEW_WRITTEN_BYTES) return false;
  try {
    // Writing takes about 0.25 ms for each MiB, a fork 0.03 ms.
    return writtenBytes * 8 > readRssBytes(pid);
  } catch {
    return false; // it ended
  }
}

const FEW_WRITTEN_BYTES = 16 << 20;
