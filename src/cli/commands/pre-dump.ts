/**
 * `criu pre-dump` and `criu dedup`.
 */
import { print } from "../output.js";
import { UsageError } from "../../errors.js";
import { dedupChain } from "../../engine/dedup.js";
import { preDump } from "../../engine/pre-dump.js";
import { statsText } from "../display-stats.js";
import { preDumpOptions } from "../options/engine.js";
import type { Settings } from "../options/spec.js";
import { checkDirectories, closeDescriptors, tellReady, withLog } from "../session.js";

export function preDumpCommand(settings: Settings): number {
  const { tree } = settings;
  if (tree === undefined) {
    throw new UsageError({
      code: "TREE_MISSING",
      message: "Cannot copy memory: no process was named",
      remedy: ["Name the root of the tree with -t PID"],
    });
  }
  closeDescriptors(settings);
  checkDirectories(settings);
  const options = preDumpOptions(settings, tree);
  withLog(settings, (log) => preDump(options, log));
  if (settings.displayStats) print(statsText(options.workDir, "STATS_DUMP"));
  tellReady(settings);
  return 0;
}

export function dedupCommand(settings: Settings): number {
  checkDirectories(settings);
  withLog(settings, (log) => log.info(`${dedupChain(settings.imagesDir ?? ".")} bytes were taken out of older images`));
  return 0;
}
