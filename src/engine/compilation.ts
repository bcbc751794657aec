/**
 * How eagerly Bun's engine compiles JavaScript to machine code (the executable; on Node there is nothing to set). What a small tree needs
 * runs a few times: compiling it takes a tenth of the whole command, and its threads a part of the freeze. What a large tree needs
 * runs thousands of times (docs/decisions/0025-small-trees.md).
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { readFdNumbers, readThreadIds } from "../linux/proc/list.js";
import { readMapsHead, readRssBytes } from "../linux/proc/read.js";

/** So many times the usual thresholds: nothing of a small tree comes that far. */
const NEVER = 1000;
const USUAL = 1;

interface Engine {
  readonly Bun?: { readonly unsafe?: { readonly setJITPolicy?: (scale: number) => void } };
}

function compileAfter(scale: number): void {
  (globalThis as Engine).Bun?.unsafe?.setJITPolicy?.(scale);
}

/** What is not small in one way or another. */
const SMALL = { processes: 4, threads: 8, descriptors: 64, memoryBytes: 32 << 20, mapsBytes: 16 << 10, imageBytes: 64 << 10 };

/** For a dump of running processes. */
export function compileForTree(pids: readonly number[]): void {
  compileAfter(pids.length <= SMALL.processes && pids.every(isSmallProcess) ? NEVER : USUAL);
}

function isSmallProcess(pid: number): boolean {
  try {
    return (
      readRssBytes(pid) < SMALL.memoryBytes &&
      readThreadIds(pid).length <= SMALL.threads &&
      readFdNumbers(pid).length <= SMALL.descriptors &&
      readMapsHead(pid, SMALL.mapsBytes) < SMALL.mapsBytes
    );
  } catch {
    return false; // it ended: whatever there is to do, the usual way is no mistake
  }
}

/** For a restore from a directory: all that is read and made is as much as there are messages, and pages. */
export function compileForImages(directory: string): void {
  let messages = 0;
  let memory = 0;
  try {
    for (const name of readdirSync(directory)) {
      if (!name.endsWith(".img")) continue;
      const { size } = statSync(join(directory, name));
      if (name.startsWith("pages-")) memory += size;
      else messages += size;
    }
  } catch {
    return; // the restore says what is wrong
  }
  compileAfter(messages <= SMALL.imageBytes && memory <= SMALL.memoryBytes ? NEVER : USUAL);
}
