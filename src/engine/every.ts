/**
 * Dumps of a tree that runs on, again and again, each the difference to the one before: `DIR/1`, `DIR/2`, …
 *
 * Whoever stays between the dumps can know what was written since: the userfaultfds stay open, so a dump reads only the pages that
 * were written, and stands still only for what was written last. Where that is not possible a dump is like any other with
 * older images (`resources/memory/increment.ts`).
 */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type DumpResult, dump } from "./dump.js";
import type { Logger } from "./log.js";
import type { DumpOptions } from "./options.js";
import { PreCopies, startTimeOf } from "./precopy.js";

export interface EveryOptions {
  /** From the beginning of one dump to that of the next, in seconds. */
  readonly everyS: number;
  /** How many dumps; undefined: until the tree ends. */
  readonly rounds?: number | undefined;
  /** Told of each dump that is whole. */
  readonly onRound?: (result: DumpResult, imagesDir: string) => void;
}

const nap = new Int32Array(new SharedArrayBuffer(4));
/** Between two looks whether the tree has ended. */
const LOOK_MS = 500;

/** Returns when all rounds are done, or the root of the tree has ended; what goes wrong in a dump is thrown. */
export function dumpEvery(options: DumpOptions, { everyS, rounds, onRound }: EveryOptions, log: Logger): void {
  const copies = new PreCopies();
  const first = nextNumber(options.imagesDir);
  const startTime = startTimeOf(options.tree);
  try {
    for (let round = 0; ; round++) {
      const started = performance.now();
      const imagesDir = join(options.imagesDir, `${first + round}`);
      mkdirSync(imagesDir, { mode: 0o700 });
      const workDir = options.workDir === options.imagesDir ? imagesDir : options.workDir;
      const prevImagesDir = round === 0 ? fromInside(options.prevImagesDir) : join("..", `${first + round - 1}`);
      const result = dump({ ...options, imagesDir, workDir, prevImagesDir, leaveRunning: true }, log, { copies, isWarm: round > 0 });
      onRound?.(result, imagesDir);
      if (round + 1 === rounds) return;
      // The pid may have been given to somebody else since.
      const livesOn = () => startTime !== undefined && startTimeOf(options.tree) === startTime;
      if (!livesUntil(started + everyS * 1000, livesOn)) {
        log.info(`process ${options.tree} has ended: this was the last dump`);
        return;
      }
    }
  } finally {
    copies.close();
  }
}

/** Waits until it is so late (by performance.now()); false when the tree has ended by then: at once. */
function livesUntil(dueMs: number, livesOn: () => boolean): boolean {
  while (livesOn()) {
    const leftMs = dueMs - performance.now();
    if (leftMs <= 0) return true;
    Atomics.wait(nap, 0, 0, Math.min(LOOK_MS, leftMs));
  }
  return false;
}

/** A path that is relative to the directory of all, as seen from the directory of one. */
function fromInside(path: string | undefined): string | undefined {
  return path === undefined || path.startsWith("/") ? path : join("..", path);
}

/** One more than any directory that is there. */
function nextNumber(folder: string): number {
  const numbers = readdirSync(folder).filter((name) => /^[1-9]\d*$/.test(name));
  return Math.max(0, ...numbers.map(Number)) + 1;
}
