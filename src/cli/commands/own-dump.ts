/**
 * `floe dump PID`.
 */
import { isatty } from "../../linux/terminals.js";
import { print, printError } from "../output.js";
import { existsSync, rmdirSync } from "node:fs";
import { resolve } from "node:path";
import { UsageError } from "../../errors.js";
import { type DumpResult, dump } from "../../engine/dump.js";
import { dumpEvery } from "../../engine/every.js";
import { statsText } from "../display-stats.js";
import { contradiction, dumpOptions } from "../options/engine.js";
import type { Settings } from "../options/spec.js";
import { parseNumber } from "../options/values.js";
import { progressLine, sizeText } from "../progress.js";
import { checkDirectories, makeDirectory, withLog } from "../session.js";

const PAGE_BYTES = 4096;

/** The name that stands for standard output and input. */
export const STANDARD = "-";
const STANDARD_OUTPUT = 1;

function summaryOf(pids: readonly number[], { pages }: DumpResult["figures"]): string {
  const memory = sizeText((pages.written + pages.sharedWritten) * PAGE_BYTES);
  return `${pids.length === 1 ? "1 process" : `${pids.length} processes`}, ${memory} of memory`;
}

export function ownDump(operand: string, given: Settings): number {
  const tree = parseNumber(operand);
  if (tree === undefined || tree <= 0) {
    throw new UsageError({
      code: "PID_BAD",
      message: `Cannot dump "${operand}": it is not the pid of a process`,
      remedy: ["floe dump PID"],
    });
  }
  if (given.imagesDir === STANDARD) return dumpToStream(tree, given);
  const settings = { ...given, imagesDir: given.imagesDir ?? `floe-${tree}` };
  const isNew = !existsSync(settings.imagesDir);
  makeDirectory(settings.imagesDir);
  const progress = progressLine();
  try {
    checkDirectories(settings);
    const options = dumpOptions(settings, tree);
    const { everyS, rounds } = settings;
    if (everyS !== undefined) {
      withLog(settings, (log) => dumpEvery(options, { everyS, rounds, onRound: say }, log));
      return 0;
    }
    const result = withLog(settings, (log) => dump({ ...options, ...(progress.hook && { progress: progress.hook }) }, log));
    progress.end();
    say(result, settings.imagesDir);
    if (settings.displayStats) print(statsText(options.workDir, "STATS_DUMP"));
    return 0;
  } catch (error) {
    progress.end();
    if (isNew) removeEmpty(settings.imagesDir);
    throw error;
  }
}

function say({ pids, figures }: DumpResult, imagesDir: string): void {
  print(`${summaryOf(pids, figures)}: ${imagesDir}\n`);
}

/** `-o -`: one stream to standard output; what there is to say goes to standard error. */
function dumpToStream(tree: number, given: Settings): number {
  if (isatty(STANDARD_OUTPUT)) {
    throw new UsageError({
      code: "STREAM_NOT_WRITABLE",
      message: "Cannot send the images: standard output is a terminal",
      remedy: [`floe dump ${tree} -o - | ssh other floe restore -`, "Name a directory with -o"],
    });
  }
  if (given.autoDedup) throw contradiction("-o -", "--auto-dedup");
  if (given.everyS !== undefined) throw contradiction("-o -", "--every");
  const prevImagesDir = given.prevImagesDir === undefined ? undefined : resolve(given.prevImagesDir);
  const settings = { ...given, imagesDir: ".", prevImagesDir };
  checkDirectories(settings);
  const options = { ...dumpOptions(settings, tree), stream: { kind: "frames", fd: STANDARD_OUTPUT } as const };
  const progress = progressLine();
  try {
    const { pids, figures } = withLog(settings, (log) => dump({ ...options, ...(progress.hook && { progress: progress.hook }) }, log));
    progress.end();
    printError(`${summaryOf(pids, figures)}: sent\n`);
    return 0;
  } finally {
    progress.end();
  }
}

/** A directory that we made for nothing goes again; one with a log in it stays. */
function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Not empty, or gone: either way there is nothing for us to remove.
  }
}
