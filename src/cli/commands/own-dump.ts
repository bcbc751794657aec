/**
 * `floe dump PID`.
 */
import { existsSync, rmdirSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { dump } from "../../engine/dump.js";
import { statsText } from "../display-stats.js";
import { dumpOptions } from "../options/engine.js";
import type { Settings } from "../options/spec.js";
import { parseNumber } from "../options/values.js";
import { progressLine, sizeText } from "../progress.js";
import { checkDirectories, makeDirectory, withLog } from "../session.js";

const PAGE_BYTES = 4096;

export function ownDump(operand: string, given: Settings): number {
  const tree = parseNumber(operand);
  if (tree === undefined || tree <= 0) {
    throw new UsageError({
      code: "PID_BAD",
      message: `Cannot dump "${operand}": it is not the pid of a process`,
      remedy: ["floe dump PID"],
    });
  }
  const settings = { ...given, imagesDir: given.imagesDir ?? `floe-${tree}` };
  const isNew = !existsSync(settings.imagesDir);
  makeDirectory(settings.imagesDir);
  const progress = progressLine(process.stderr);
  try {
    checkDirectories(settings);
    const options = dumpOptions(settings, tree);
    const { pids, figures } = withLog(settings, (log) => dump({ ...options, ...(progress.hook && { progress: progress.hook }) }, log));
    progress.end();
    const memory = sizeText((figures.pages.written + figures.pages.sharedWritten) * PAGE_BYTES);
    const count = pids.length === 1 ? "1 process" : `${pids.length} processes`;
    process.stdout.write(`${count}, ${memory} of memory: ${settings.imagesDir}\n`);
    if (settings.displayStats) process.stdout.write(statsText(options.workDir, "STATS_DUMP"));
    return 0;
  } catch (error) {
    progress.end();
    if (isNew) removeEmpty(settings.imagesDir);
    throw error;
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
