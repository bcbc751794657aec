/**
 * Floe as a library: the engine that the commands use.
 *
 * Everything is synchronous and belongs to the calling thread; run it in a process of its own where that matters. Needs
 * Linux on x86-64 and root.
 *
 * @example
 * import { dump, restore, openLog, DEFAULT_POLICY, DEFAULT_TIMEOUT_S } from "floe";
 * const log = openLog({ level: 2 });
 * const common = { ...DEFAULT_POLICY, imagesDir: "images", workDir: "images", displayStats: false };
 * dump({ ...common, tree: 4242, leaveRunning: false, leaveStopped: false, timeoutS: DEFAULT_TIMEOUT_S }, log);
 * const { rootPid } = restore(
 *   { ...common, restoreDetached: true, leaveStopped: false, pidfile: undefined, execCmd: undefined },
 *   log,
 * );
 */
export { type DumpResult, dump } from "./engine/dump.js";
export { type Logger, SILENT, openLog } from "./engine/log.js";
export {
  type CommonOptions,
  DEFAULT_POLICY,
  DEFAULT_TIMEOUT_S,
  type DumpOptions,
  type Progress,
  type ProgressHook,
  type RestoreOptions,
} from "./engine/options.js";
export { type RestoreResult, restore } from "./engine/restore.js";
export {
  ImageError,
  type ImagePlace,
  KernelError,
  Problems,
  type ProcessName,
  Refusal,
  type RefusalInit,
  UsageError,
} from "./errors.js";
