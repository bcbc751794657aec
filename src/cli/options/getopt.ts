/**
 * Command lines in the manner of getopt_long(3): options and operands in any order, `--` ends the options, a long name may be
 * shortened as long as it is clear, a value follows after `=` or as the next word, short options may be clustered.
 */
import { UsageError } from "../../errors.js";
import { type OptionSpec, argumentOf } from "./spec.js";

/** An option as it was given. */
export interface Given {
  readonly spec: OptionSpec;
  /** By its `--no-` form. */
  readonly negated: boolean;
  readonly text: string | undefined;
  /** As the user wrote it, for messages. */
  readonly written: string;
}

export interface CommandLine {
  readonly options: readonly Given[];
  readonly operands: readonly string[];
  /** Everything after `--`; undefined without one. */
  readonly rest: readonly string[] | undefined;
}

interface LongName {
  readonly name: string;
  readonly spec: OptionSpec;
  readonly negated: boolean;
}

function longNames(table: readonly OptionSpec[]): LongName[] {
  return table.flatMap((spec) => {
    const plain = { name: spec.name, spec, negated: false };
    return spec.kind === "flag" && spec.negatable ? [plain, { name: `no-${spec.name}`, spec, negated: true }] : [plain];
  });
}

const bad = (code: string, message: string) => new UsageError({ code, message, remedy: ["See --help for the options there are"] });

/** The long option that `name` stands for, in full or shortened. */
export function findLong(table: readonly OptionSpec[], name: string): LongName {
  const names = longNames(table);
  const exact = names.find((n) => n.name === name);
  if (exact !== undefined) return exact;
  const candidates = names.filter((n) => n.name.startsWith(name));
  const [first] = candidates;
  if (first === undefined || name === "") throw bad("OPTION_UNKNOWN", `There is no option "--${name}"`);
  const isClear = candidates.every((c) => c.negated === first.negated && sameMeaning(c.spec, first.spec));
  if (isClear) return first;
  const list = candidates.map((c) => `--${c.name}`).join(", ");
  throw bad("OPTION_AMBIGUOUS", `Option "--${name}" may stand for ${list}`);
}

const sameMeaning = (a: OptionSpec, b: OptionSpec) => a === b || (a.kind === "flag" && b.kind === "flag" && a.key === b.key);

/** Reads the words of a command line. */
export function parseCommandLine(words: readonly string[], table: readonly OptionSpec[]): CommandLine {
  const options: Given[] = [];
  const operands: string[] = [];
  const queue = [...words];
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    if (word === "--") return { options, operands, rest: queue };
    if (word.startsWith("--")) options.push(readLong(word, queue, table));
    else if (word.startsWith("-") && word !== "-") options.push(...readShort(word, queue, table));
    else operands.push(word);
  }
  return { options, operands, rest: undefined };
}

function readLong(word: string, queue: string[], table: readonly OptionSpec[]): Given {
  const equals = word.indexOf("=");
  const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
  const { spec, negated } = findLong(table, name);
  const written = `--${negated ? "no-" : ""}${spec.name}`;
  const attached = equals < 0 ? undefined : word.slice(equals + 1);
  if (attached !== undefined && argumentOf(spec) === "none") throw bad("OPTION_TAKES_NO_VALUE", `Option "${written}" takes no value`);
  const text = attached ?? (argumentOf(spec) === "required" ? nextWord(queue, written) : undefined);
  return { spec, negated, text, written };
}

function readShort(word: string, queue: string[], table: readonly OptionSpec[]): Given[] {
  const given: Given[] = [];
  for (let at = 1; at < word.length; at++) {
    const letter = word.charAt(at);
    const spec = table.find((s) => s.short === letter);
    if (spec === undefined) throw bad("OPTION_UNKNOWN", `There is no option "-${letter}"`);
    const written = `-${letter}`;
    if (argumentOf(spec) === "none") {
      given.push({ spec, negated: false, text: undefined, written });
      continue;
    }
    // The rest of the word is the value.
    const attached = at + 1 < word.length ? word.slice(at + 1) : undefined;
    const text = attached ?? (argumentOf(spec) === "required" ? nextWord(queue, written) : undefined);
    given.push({ spec, negated: false, text, written });
    break;
  }
  return given;
}

function nextWord(queue: string[], written: string): string {
  const word = queue.shift();
  if (word === undefined) throw bad("OPTION_NEEDS_VALUE", `Option "${written}" needs a value`);
  return word;
}
