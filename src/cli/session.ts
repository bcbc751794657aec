/**
 * What dump and restore have in common around the engine: directories, log, statistics, descriptors.
 */
import { closeSync, mkdirSync, statSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import { UsageError } from "../errors.js";
import { type Logger, openLog } from "../engine/log.js";
import { describeError } from "./report.js";
import { DEFAULT_VERBOSITY } from "./options/special.js";
import type { Settings } from "./options/spec.js";
import { CRIU_VERSION, floeVersion } from "./version.js";

/** Runs `action` with a log; its failure is written there too. */
export function withLog<R>(settings: Settings, action: (log: Logger) => R): R {
  const workDir = settings.workDir ?? settings.imagesDir ?? ".";
  const level = settings.verbosity ?? DEFAULT_VERBOSITY;
  const log = openLog({ level, ...(settings.logFile === undefined ? {} : { file: resolve(workDir, settings.logFile) }) });
  log.info(`Version: ${CRIU_VERSION} (Floe ${floeVersion()})`);
  if (settings.withoutEffect.length > 0)
    log.warn(`options of other commands, which have no effect here: ${settings.withoutEffect.join(", ")}`);
  try {
    return action(log);
  } catch (error) {
    // Without a log file the front end prints it on the same standard error.
    if (settings.logFile !== undefined) for (const line of describeError(error).split("\n")) log.error(line);
    throw error;
  } finally {
    log.close();
  }
}

/** Refuses directories that cannot be used, before anything else. */
export function checkDirectories(settings: Settings, use: "written" | "read" = "written"): void {
  const [images, work] = [settings.imagesDir ?? ".", settings.workDir];
  requireDirectory(
    images,
    "--images-dir",
    use === "read" ? "Name the directory that a dump has filled" : `Make it first: mkdir -p ${images}`,
  );
  if (work !== undefined) requireDirectory(work, "--work-dir", `Make it first: mkdir -p ${work}`);
}

function requireDirectory(path: string, option: string, remedy: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory() === true) return;
  throw new UsageError({
    code: option === "--work-dir" ? "WORK_DIR_UNUSABLE" : "IMAGES_DIR_UNUSABLE",
    message: `Cannot use "${path}" for ${option}: ${found === undefined ? "there is no such directory" : "it is not a directory"}`,
    remedy: [remedy],
  });
}

/** Makes the directory of our own commands, which need not exist. */
export function makeDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
}

/** Closes what the user does not want us to have (--close). */
export function closeDescriptors(settings: Settings): void {
  for (const fd of settings.close) {
    try {
      closeSync(fd);
    } catch (cause) {
      throw new UsageError({
        code: "CLOSE_FAILED",
        message: `Cannot close descriptor ${fd}: it is not open`,
        remedy: ["Leave out --close"],
        cause,
      });
    }
  }
}

/** Tells whoever waits at --status-fd that we are ready. */
export function tellReady(settings: Settings): void {
  if (settings.statusFd === undefined) return;
  try {
    writeSync(settings.statusFd, "\0");
    closeSync(settings.statusFd);
  } catch (cause) {
    throw new UsageError({
      code: "STATUS_FD_UNUSABLE",
      message: `Cannot write to --status-fd ${settings.statusFd}: ${cause instanceof Error ? cause.message : String(cause)}`,
      remedy: ["Give the number of a descriptor that is open for writing"],
      cause,
    });
  }
}
