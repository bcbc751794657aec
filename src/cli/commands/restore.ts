/**
 * `criu restore`.
 */
import { anewIfInOwnWay } from "../anew.js";
import { print } from "../output.js";
import { UsageError } from "../../errors.js";
import { restore } from "../../engine/restore.js";
import { execve, exitNow, findProgram } from "../../linux/exec.js";
import { waitChild } from "../../linux/process.js";
import { statsText } from "../display-stats.js";
import { restoreOptions } from "../options/engine.js";
import type { Settings } from "../options/spec.js";
import { checkDirectories, closeDescriptors, tellReady, withLog } from "../session.js";

export function restoreCommand(settings: Settings, rest: readonly string[] | undefined): number {
  const command = settings.execCmd ? (rest ?? []) : undefined;
  if (command?.length === 0) {
    throw new UsageError({
      code: "EXEC_CMD_MISSING",
      message: "Cannot restore: --exec-cmd names no command",
      remedy: ["Put it behind --, at the end of the line"],
    });
  }
  if (command !== undefined && settings.restoreDetached) {
    throw new UsageError({
      code: "OPTIONS_CONTRADICT",
      message: "Cannot use --restore-detached together with --exec-cmd",
      remedy: ["Leave out one of them"],
    });
  }
  // A program that does not exist must show before there is a tree without a parent.
  const program = command?.[0] === undefined ? undefined : findProgram(command[0], process.env.PATH);
  closeDescriptors(settings);
  checkDirectories(settings, "read");
  const options = restoreOptions(settings, command);
  const { rootPid } = anewIfInOwnWay(settings, () => withLog(settings, (log) => restore(options, log)));
  if (settings.displayStats) print(statsText(options.workDir, "STATS_RESTORE"));
  tellReady(settings);
  if (command !== undefined && program !== undefined) execve(program, command, process.env);
  if (!settings.restoreDetached) waitChild(rootPid);
  // The terminal is the job's now.
  else if (settings.shellJob) exitNow(0);
  return 0;
}
