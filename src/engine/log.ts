/**
 * The log: levels as CRIU's, lines with the time since start, kept in memory while a target stands still.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { UsageError } from "../errors.js";
import { shownText } from "../linux/text.js";

export const LOG_LEVEL = { error: 1, warning: 2, info: 3, debug: 4 } as const;
export type LogLevel = (typeof LOG_LEVEL)[keyof typeof LOG_LEVEL];

/** Where messages of the engine go. */
export interface Logger {
  error(message: string): void;
  warn(message: string): void;
  info(message: string): void;
  debug(message: string): void;
  /** Writes out what is kept in memory. */
  flush(): void;
  close(): void;
}

const STDERR = 2;
const FULL_PIPE_NAP_MS = 5;

/** A log that writes lines up to `level` to `file` (made 0600), or to standard error. */
export function openLog(options: { level: number; file?: string }): Logger {
  const fd = options.file === undefined ? STDERR : openFile(options.file);
  let lines: string[] = [];
  const put = (level: LogLevel, mark: string, message: string) => {
    if (level > options.level) return;
    const seconds = (performance.now() / 1000).toFixed(6).padStart(9, "0");
    const stamp = options.level >= LOG_LEVEL.info || options.file !== undefined ? `(${seconds}) ` : "";
    lines.push(`${stamp}${mark}${message}\n`);
  };
  const flush = () => {
    if (lines.length === 0) return;
    const text = lines.join("");
    lines = [];
    writeAll(fd, text);
  };
  return {
    error: (message) => put(LOG_LEVEL.error, "Error (floe): ", message),
    warn: (message) => put(LOG_LEVEL.warning, "Warn  (floe): ", message),
    info: (message) => put(LOG_LEVEL.info, "", message),
    debug: (message) => put(LOG_LEVEL.debug, "", message),
    flush,
    close() {
      flush();
      if (fd !== STDERR) closeSync(fd);
    },
  };
}

function openFile(path: string): number {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
  } catch (cause) {
    throw new UsageError({
      code: "LOG_FILE_UNUSABLE",
      message: `Cannot write the log file "${path}": ${cause instanceof Error ? cause.message : String(cause)}`,
      remedy: ["Name a file in a directory that is there and can be written to"],
      cause,
    });
  }
}

/** Writes everything, also into a pipe that is full at the moment. A reader that has gone, or a full disk, must not stop a dump. */
export function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(shownText(text));
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_PIPE_NAP_MS);
    }
  }
}

const nothing = (): void => undefined;

/** A log that keeps nothing. */
export const SILENT: Logger = { error: nothing, warn: nothing, info: nothing, debug: nothing, flush: nothing, close: nothing };
