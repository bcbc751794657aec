/**
 * Configuration files: long options without their dashes, one a line, with `#` comments and double quotes.
 *
 * Read in this order, so that a later one wins: /etc/criu/default.conf, $HOME/.criu/default.conf, the file that
 * $CRIU_CONFIG_FILE names, that of --config; the command line comes after them. --config and --no-default-config
 * switch the first two off. A file that does not exist is none.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../../errors.js";
import { type Given, findLong } from "./getopt.js";
import { type OptionSpec, argumentOf } from "./spec.js";

const SYSTEM_FILE = "/etc/criu/default.conf";
const HOME_FILE = ".criu/default.conf";
const MAX_FILE_BYTES = 1 << 20;

export interface ConfigChoice {
  readonly config: string | undefined;
  readonly noDefaultConfig: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Paths to read, in order. */
export function configFiles({ config, noDefaultConfig, env }: ConfigChoice): string[] {
  const home = env["HOME"];
  const defaults = home === undefined || home === "" ? [SYSTEM_FILE] : [SYSTEM_FILE, join(home, HOME_FILE)];
  const named = [env["CRIU_CONFIG_FILE"], config].filter((path) => path !== undefined && path !== "");
  return [...(noDefaultConfig || config !== undefined ? [] : defaults), ...named].filter((path) => path !== undefined);
}

/** An option of a configuration file, with the place where it stands. */
export interface ConfigOption {
  readonly given: Given;
  readonly from: string;
}

/** Options of a configuration file. */
export function readConfigFile(path: string, table: readonly OptionSpec[]): ConfigOption[] {
  const text = readText(path);
  if (text === undefined) return [];
  return text.split("\n").flatMap((line, index) => {
    const from = `${path}, line ${index + 1}`;
    const words = splitWords(line, from);
    return words.length === 0 ? [] : [{ given: readOption(words, { table, from }), from }];
  });
}

function readText(path: string): string | undefined {
  try {
    const bytes = readFileSync(path);
    if (bytes.length > MAX_FILE_BYTES) throw bad(path, `it has ${bytes.length} bytes, the limit is ${MAX_FILE_BYTES}`);
    return bytes.toString("utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw cause instanceof UsageError ? cause : bad(path, cause instanceof Error ? cause.message : String(cause));
  }
}

/** Words of a line: blanks part them, double quotes keep them together (`\"` is a quote inside), `#` begins a comment. */
export function splitWords(line: string, from: string): string[] {
  const words: string[] = [];
  for (let rest = line.trimStart(); rest !== "" && !rest.startsWith("#"); ) {
    const match = /^(?:"((?:[^"\\]|\\.)*)"|([^\s"#]+(?:"(?:[^"\\]|\\.)*")?[^\s"#]*))/.exec(rest);
    if (match === null) throw bad(from, "a quotation does not end");
    words.push(match[1] === undefined ? (match[2] ?? "").replace(/"((?:[^"\\]|\\.)*)"/, unquote) : unquote("", match[1]));
    rest = rest.slice(match[0].length).trimStart();
  }
  return words;
}

const unquote = (_: string, inside: string) => inside.replaceAll('\\"', '"');

function readOption(words: readonly string[], { table, from }: { table: readonly OptionSpec[]; from: string }): Given {
  const [first = "", second, third] = words;
  const equals = first.indexOf("=");
  const { spec, negated } = within(from, () => findLong(table, equals < 0 ? first : first.slice(0, equals)));
  const written = `${negated ? "no-" : ""}${spec.name}`;
  const text = equals < 0 ? second : first.slice(equals + 1);
  const extra = equals < 0 ? third : second;
  const takes = argumentOf(spec);
  if (extra !== undefined) throw bad(from, `"${extra}" stands behind the value of ${written}`);
  if (takes === "none" && text !== undefined) throw bad(from, `${written} takes no value, and "${text}" follows it`);
  if (takes === "required" && text === undefined) throw bad(from, `${written} needs a value`);
  return { spec, negated, text, written };
}

/** Names the place in an error about an option. */
function within<R>(from: string, action: () => R): R {
  try {
    return action();
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    throw new UsageError({ code: cause.code, message: `${from}: ${cause.message}`, remedy: cause.remedy, cause });
  }
}

function bad(where: string, because: string): UsageError {
  return new UsageError({
    code: "CONFIG_FILE_BAD",
    message: `Cannot read configuration file ${where}: ${because}`,
    remedy: [
      "Write one long option a line, without dashes, as in: ghost-limit 16M",
      "Use --no-default-config to leave the default files out",
    ],
  });
}
