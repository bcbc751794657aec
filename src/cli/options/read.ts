/**
 * A command line, with the configuration files below it, as settings.
 */
import { configFiles, readConfigFile } from "./config-files.js";
import { defaultSettings } from "./defaults.js";
import { applyGiven } from "./evaluate.js";
import { parseCommandLine } from "./getopt.js";
import type { OptionSpec, Settings } from "./spec.js";
import { OPTIONS } from "./table.js";

/** What the user asked for. */
export interface Request {
  readonly settings: Settings;
  /** The command, and what follows it. */
  readonly operands: readonly string[];
  /** What stands after `--`. */
  readonly rest: readonly string[] | undefined;
  /** Options of the command line. */
  readonly given: readonly OptionSpec[];
}

export interface ReadFrom {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly table?: readonly OptionSpec[];
}

/** Reads `words`, and the configuration files that they and the environment name. */
export function readSettings(words: readonly string[], { env = process.env, table = OPTIONS }: ReadFrom = {}): Request {
  const line = parseCommandLine(words, table);
  const asked = defaultSettings();
  applyGiven(asked, line.options);
  const { operands, rest } = line;
  const given = line.options.map(({ spec }) => spec);
  // Help must come even when a configuration file is broken.
  if (asked.help || asked.version) return { settings: asked, operands, rest, given };

  const settings = defaultSettings();
  settings.deprecated = env["CRIU_DEPRECATED"] !== undefined;
  for (const path of configFiles({ config: asked.config, noDefaultConfig: asked.noDefaultConfig, env })) {
    for (const { given, from } of readConfigFile(path, table)) applyGiven(settings, [given], from);
  }
  // Only the command line may ask for these.
  settings.help = false;
  settings.version = false;
  applyGiven(settings, line.options);
  return { settings, operands, rest, given };
}
