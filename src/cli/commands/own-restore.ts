/**
 * `floe restore DIR`.
 */
import { anewIfInOwnWay } from "../anew.js";
import { print } from "../output.js";
import { restore } from "../../engine/restore.js";
import { exitNow } from "../../linux/exec.js";
import { waitChild } from "../../linux/process.js";
import { statsText } from "../display-stats.js";
import { contradiction, restoreOptions } from "../options/engine.js";
import type { Settings } from "../options/spec.js";
import { progressLine } from "../progress.js";
import { checkDirectories, withLog } from "../session.js";

const BY_SIGNAL = 128;
const STANDARD_INPUT = 0;

export function ownRestore(directory: string, given: Settings): number {
  const isStream = directory === "-";
  const settings = { ...given, imagesDir: isStream ? "." : directory };
  checkDirectories(settings);
  if (isStream && given.lazyPages) throw contradiction("restore -", "--lazy-pages");
  const stream = isStream ? ({ kind: "frames", fd: STANDARD_INPUT } as const) : undefined;
  const options = { ...restoreOptions(settings, undefined), stream, prevImagesDir: given.prevImagesDir };
  const progress = progressLine();
  let rootPid: number;
  try {
    const work = () => withLog(settings, (log) => restore({ ...options, ...(progress.hook && { progress: progress.hook }) }, log));
    ({ rootPid } = isStream ? work() : anewIfInOwnWay(settings, work));
  } finally {
    progress.end();
  }
  if (settings.displayStats && !isStream) print(statsText(options.workDir, "STATS_RESTORE"));
  if (settings.restoreDetached) {
    print(`${rootPid}\n`);
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
