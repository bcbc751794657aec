/**
 * `floe restore DIR`.
 */
import { restore } from "../../engine/restore.js";
import { exitNow } from "../../linux/exec.js";
import { waitChild } from "../../linux/process.js";
import { statsText } from "../display-stats.js";
import { restoreOptions } from "../options/engine.js";
import type { Settings } from "../options/spec.js";
import { progressLine } from "../progress.js";
import { checkDirectories, withLog } from "../session.js";

const BY_SIGNAL = 128;

export function ownRestore(directory: string, given: Settings): number {
  const settings = { ...given, imagesDir: directory };
  checkDirectories(settings);
  const options = restoreOptions(settings, undefined);
  const progress = progressLine(process.stderr);
  let rootPid: number;
  try {
    ({ rootPid } = withLog(settings, (log) => restore({ ...options, ...(progress.hook && { progress: progress.hook }) }, log)));
  } finally {
    progress.end();
  }
  if (settings.displayStats) process.stdout.write(statsText(options.workDir, "STATS_RESTORE"));
  if (settings.restoreDetached) {
    process.stdout.write(`${rootPid}\n`);
    // The terminal is the job's now.
    if (settings.shellJob) exitNow(0);
    return 0;
  }
  return waitLikeShell(rootPid);
}

/** Waits for the root, and ends as it ended: its exit code, or 128 and the signal. */
function waitLikeShell(pid: number): number {
  for (;;) {
    const status = waitChild(pid)?.status;
    if (status?.kind === "exited") return status.code;
    if (status?.kind === "killed") return BY_SIGNAL + status.signal;
  }
}
