/**
 * Help of `criu` and `floe`, made from the option table; no line is wider than 80 columns.
 */
import { type OptionSpec, argumentOf } from "./options/spec.js";
import { OPTION_SECTIONS } from "./options/table.js";
import { OWN_OPTIONS } from "./own-options.js";

const WIDTH = 80;
const NAME_COLUMNS = 26;

const USAGE = `
Usage:
  criu dump -t PID [<options>]
  criu pre-dump -t PID [<options>]
  criu restore [<options>]
  criu dedup -D DIR
  criu lazy-pages -D DIR [<options>]
  criu page-server [--address ADDRESS] --port PORT [<options>]
  criu check [--feature FEAT]

Commands:
  dump           freeze a process tree and write it to files
  pre-dump       write the memory of a tree to files while it runs
  restore        bring a process tree back
  dedup          take pages out of older images that newer ones have
  lazy-pages     fill the memory of processes restored with --lazy-pages
  page-server    write pages that a dump elsewhere sends to files
  check          see whether the kernel has what is needed

Not in this version: service, swrk, cpuinfo
`;

export function criuUsage(): string {
  return `${USAGE}\nTry -h or --help for more\n`;
}

export function criuHelp(): string {
  const sections = OPTION_SECTIONS.map(([title, options]) => `${title}:\n${options.map(optionHelp).join("")}`);
  const note =
    "Options marked with * have a form --no-NAME. Options marked with ! are not in\n" +
    "this version: they are understood, and refused by name.\n";
  return `${USAGE}\n${note}\n${sections.join("\n")}`;
}

const OWN_USAGE = `Floe freezes running processes into files, and brings them back.

Usage:
  floe dump PID [-o DIR]    freeze the tree of processes below PID
  floe restore DIR [-d]     bring it back; without -d, wait for its end
  floe show DIR [--json]    what is in a directory of images
  floe check                see whether the kernel has what is needed
  floe lock DIR             hold its connections back where it will be restored
  floe unlock [ID|stale]    locks on connections that dumps have left
  floe criu ...             the command line of CRIU
  floe crit ...             the command line of CRIT
  floe help                 this text

`;

export function floeHelp(): string {
  return `${OWN_USAGE}Options:\n${OWN_OPTIONS.map((spec) => optionHelp({ ...spec, built: true })).join("")}`;
}

function optionHelp(spec: OptionSpec): string {
  const argument = argumentOf(spec) === "none" ? "" : ` ${spec.argumentName ?? "VALUE"}`;
  const shown = argumentOf(spec) === "optional" ? argument.replace(/ (.*)/, "[=$1]") : argument;
  const marks = `${spec.kind === "flag" && spec.negatable ? "*" : ""}${spec.built === false ? "!" : ""}`;
  const name = `  ${spec.short === undefined ? "   " : `-${spec.short},`} --${spec.name}${shown}${marks}`;
  const lines = wrap(spec.help, WIDTH - NAME_COLUMNS);
  const first = name.length < NAME_COLUMNS ? name.padEnd(NAME_COLUMNS) + (lines.shift() ?? "") : name;
  return [first, ...lines.map((line) => " ".repeat(NAME_COLUMNS) + line)].map((line) => `${line}\n`).join("");
}

/** Text in lines of at most `width` columns. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
