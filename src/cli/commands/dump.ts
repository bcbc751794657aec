/**
 * `criu dump`.
 */
import { print } from "../output.js";
import { UsageError } from "../../errors.js";
import { dump } from "../../engine/dump.js";
import { dumpEvery } from "../../engine/every.js";
import { statsText } from "../display-stats.js";
import type { DumpOptions } from "../../engine/options.js";
import { listenAt } from "../../engine/page-server/address.js";
import { dumpOptions } from "../options/engine.js";
import { resolvePeer } from "../options/peer.js";
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
  const options = { ...dumpOptions(settings, tree), ...lazyOptions(settings) };
  const { everyS, rounds } = settings;
  withLog(settings, (log) => (everyS === undefined ? dump(options, log) : dumpEvery(options, { everyS, rounds }, log)));
  if (everyS !== undefined) return 0;
  if (settings.displayStats) print(statsText(options.workDir, "STATS_DUMP"));
  if (!settings.lazyPages) tellReady(settings);
  return 0;
}

/** --lazy-pages: the destination can come when the images are there, and must find somebody who listens. */
function lazyOptions(settings: Settings): Partial<DumpOptions> {
  if (!settings.lazyPages) return {};
  const other = settings.pageServer
    ? "--page-server"
    : settings.leaveRunning
      ? "--leave-running"
      : settings.leaveStopped && "--leave-stopped";
  if (other !== false) {
    throw new UsageError({
      code: "OPTIONS_CONTRADICT",
      message: `Cannot use --lazy-pages together with ${other}`,
      remedy: ["Leave out one of them"],
    });
  }
  const peer = resolvePeer(settings);
  const lazySource = { from: peer.socket ?? listenAt(peer), peer, onReady: () => tellReady(settings) };
  return { preCopy: "never", lazySource };
}
