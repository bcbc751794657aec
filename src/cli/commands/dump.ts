/**
 * `criu dump`.
 */
import { UsageError } from "../../errors.js";
import { dump } from "../../engine/dump.js";
import { statsText } from "../display-stats.js";
import { dumpOptions } from "../options/engine.js";
import type { Settings } from "../options/spec.js";
import { checkDirectories, closeDescriptors, tellReady, withLog } from "../session.js";

export function dumpCommand(settings: Settings): number {
  const { tree } = settings;
  if (tree === undefined) {
    throw new UsageError({
      code: "TREE_MISSING",
      message: "Cannot dump: no process was named",
      remedy: ["Name the root of the tree with -t PID"],
    });
  }
  closeDescriptors(settings);
  checkDirectories(settings);
  const options = dumpOptions(settings, tree);
  withLog(settings, (log) => dump(options, log));
  if (settings.displayStats) process.stdout.write(statsText(options.workDir, "STATS_DUMP"));
  tellReady(settings);
  return 0;
}
