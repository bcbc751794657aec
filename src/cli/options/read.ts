/**
 * A command line, with the configuration files below it, as settings.
 */
import { defaultSettings } from "./defaults.js";
import { applyGiven } from "./evaluate.js";
import { parseCommandLine } from "./getopt.js";
import type { Settings } from "./spec.js";
import { OPTIONS } from "./table.js";

/** What the user asked for. */
export interface Request {
  readonly settings: Settings;
  /** The command, and what follows it. */
  readonly operands: readonly string[];
  /** What stands after `--`. */
  readonly rest: readonly string[] | undefined;
}

export function readSettings(words: readonly string[]): Request {
  const line = parseCommandLine(words, OPTIONS);
  const settings = defaultSettings();
  applyGiven(settings, line.options);
  return { settings, operands: line.operands, rest: line.rest };
}
