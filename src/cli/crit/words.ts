/**
 * The command line of `crit`.
 */
import { parseArgs } from "node:util";
import { UsageError } from "../../errors.js";
import { EXPLORERS, type Explorer } from "./explore.js";

const COMMANDS = ["decode", "encode", "info", "x", "show"] as const;
export type CritCommand = (typeof COMMANDS)[number];

/** What is asked for. Without `command` and `help` it is the version. */
export interface CritRequest {
  readonly command: CritCommand | undefined;
  readonly help: boolean;
  /** The image, JSON file or directory; standard input when absent. */
  readonly input: string | undefined;
  /** Standard output when absent. */
  readonly output: string | undefined;
  readonly pretty: boolean;
  readonly noPayload: boolean;
  readonly explorer: Explorer;
}

const NOTHING: CritRequest = {
  command: undefined,
  help: false,
  input: undefined,
  output: undefined,
  pretty: false,
  noPayload: false,
  explorer: "ps",
};

const OPTIONS = {
  decode: {
    pretty: { type: "boolean" },
    in: { type: "string", short: "i" },
    out: { type: "string", short: "o" },
    nopl: { type: "boolean" },
  },
  encode: { in: { type: "string", short: "i" }, out: { type: "string", short: "o" } },
  info: {},
  x: {},
  show: { nopl: { type: "boolean" } },
} as const;

const SYNTAX: Readonly<Record<CritCommand, string>> = {
  decode: "crit decode [--pretty] [-i|--in FILE] [-o|--out FILE]   an image as JSON",
  encode: "crit encode [-i|--in FILE] [-o|--out FILE]              JSON as an image",
  show: "crit show [--nopl] FILE                                an image as readable JSON, with --nopl without its data",
  info: "crit info FILE                                         kind and number of entries",
  x: `crit x DIRECTORY {${EXPLORERS.join(",")}}                    processes, open files, mappings, saved pages`,
};

export function critHelp(command: CritCommand | undefined): string {
  const lines = command === undefined ? [...Object.values(SYNTAX), "crit --version", "crit [COMMAND] --help"] : [SYNTAX[command]];
  return `Usage:\n${lines.map((line) => `  ${line}\n`).join("")}`;
}

export function readWords(words: readonly string[]): CritRequest {
  const [first, ...rest] = words;
  if (first === "--help" || first === "-h") return { ...NOTHING, help: true };
  if (first === "--version") return NOTHING;
  const command = COMMANDS.find((c) => c === first);
  if (command === undefined) throw usage(first === undefined ? "A command is needed" : `There is no command "${first}"`);
  const { values, positionals } = parseOptions(command, rest);
  if (values["help"] === true) return { ...NOTHING, command, help: true };
  const text = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === "string" ? value : undefined;
  };
  const operands = command === "x" ? 2 : command === "info" || command === "show" ? 1 : 0;
  if (positionals.length !== operands) throw usage(`${command} takes ${operands} operands, not ${positionals.length}`, command);
  return {
    command,
    help: false,
    input: operands === 0 ? text("in") : positionals[0],
    output: text("out"),
    pretty: command === "show" || command === "info" || values["pretty"] === true,
    noPayload: values["nopl"] === true,
    explorer: command === "x" ? explorerOf(positionals[1]) : "ps",
  };
}

function parseOptions(
  command: CritCommand,
  words: readonly string[],
): { values: Readonly<Record<string, unknown>>; positionals: string[] } {
  try {
    return parseArgs({ args: [...words], allowPositionals: true, options: { ...OPTIONS[command], help: { type: "boolean", short: "h" } } });
  } catch (cause) {
    throw usage(cause instanceof Error ? cause.message : String(cause), command);
  }
}

function explorerOf(word: string | undefined): Explorer {
  const found = EXPLORERS.find((e) => e === word);
  if (found === undefined) throw usage(`x cannot show "${word}", only ${EXPLORERS.join(", ")}`, "x");
  return found;
}

function usage(message: string, command?: CritCommand): UsageError {
  return new UsageError({
    code: "CRIT_WORDS_WRONG",
    message,
    remedy: [command === undefined ? "See crit --help" : SYNTAX[command].replace(/ {2,}/, ": ")],
  });
}
