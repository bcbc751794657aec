/**
 * `criu`: the words, options, outputs and exit codes that scripts and container engines know.
 */
import { print, printError } from "./output.js";
import { UsageError } from "../errors.js";
import { readSettings } from "./options/read.js";
import type { Command } from "./options/spec.js";
import { COMMANDS } from "./options/spec.js";
import { refuseUnbuilt } from "./options/evaluate.js";
import type { Request } from "./options/read.js";

const UNBUILT: readonly Command[] = ["service", "swrk"];

export async function criu(words: readonly string[]): Promise<number> {
  const request = readSettings(words);
  const { settings, operands } = request;
  if (settings.version) return say((await import("./version.js")).criuVersion());
  if (settings.help) return say((await import("./help.js")).criuHelp());
  const command = COMMANDS.find((c) => c === operands[0]);
  if (command === undefined) return usage(operands[0]);
  checkOperands(command, operands.slice(1));
  const successor = SUCCESSORS[command];
  if (successor !== undefined) throw commandGone(command, successor);
  if (command !== "restore" && settings.inheritFd.length > 0) throw onlyForRestore("--inherit-fd");
  if (UNBUILT.includes(command)) throw commandNotBuilt(command);
  settings.withoutEffect = request.given.flatMap(({ name, commands }) => (commands?.includes(command) === false ? [`--${name}`] : []));
  return run(command, request);
}

async function run(command: Command, request: Request): Promise<number> {
  const { settings, operands } = request;
  switch (command) {
    case "dump":
      refuseUnbuilt(settings);
      return (await import("./commands/dump.js")).dumpCommand(settings);
    case "pre-dump":
      refuseUnbuilt(settings);
      return (await import("./commands/pre-dump.js")).preDumpCommand(settings);
    case "dedup":
      refuseUnbuilt(settings);
      return (await import("./commands/pre-dump.js")).dedupCommand(settings);
    case "restore":
      refuseUnbuilt(settings);
      return (await import("./commands/restore.js")).restoreCommand(settings, request.rest);
    case "page-server":
      refuseUnbuilt(settings);
      return (await import("./commands/page-server.js")).pageServerCommand(settings);
    case "lazy-pages":
      refuseUnbuilt(settings);
      return (await import("./commands/lazy-pages.js")).lazyPagesCommand(settings);
    case "check":
      return (await import("./commands/check.js")).checkCommand(settings);
    default:
      throw commandNotBuilt([command, ...operands.slice(1)].join(" "));
  }
}

function say(text: string): number {
  print(text);
  return 0;
}

async function usage(word: string | undefined): Promise<number> {
  if (word !== undefined) printError(`Error: unknown command: ${word}\n`);
  print((await import("./help.js")).criuUsage());
  return 1;
}

/** Commands that CRIU had once, and what to use now. */
const SUCCESSORS: Partial<Record<Command, string>> = {
  exec: "Use compel, which comes with CRIU",
  show: "Use crit: crit decode -i FILE --pretty, or crit show FILE",
};

function commandGone(command: Command, remedy: string): UsageError {
  return new UsageError({ code: "COMMAND_GONE", message: `There is no command ${command} any longer`, remedy: [remedy] });
}

function onlyForRestore(option: string): UsageError {
  return new UsageError({
    code: "OPTION_ONLY_FOR_RESTORE",
    message: `${option} is an option of restore: a dump has nothing to hand over`,
    remedy: ["Leave it out, and give it to the restore; a dump leaves things outside with --external"],
  });
}

const WITH_OPERAND: readonly Command[] = ["cpuinfo", "swrk", "exec", "show"];

function checkOperands(command: Command, operands: readonly string[]): void {
  const most = WITH_OPERAND.includes(command) ? 1 : 0;
  if (operands.length <= most) return;
  throw new UsageError({
    code: "OPERAND_EXCESSIVE",
    message: `Cannot use "${operands[most]}": ${command} takes ${most === 0 ? "no" : "one"} operand`,
    remedy: ["See --help; the pid of a dump follows -t"],
  });
}

function commandNotBuilt(command: string): UsageError {
  return new UsageError({
    code: "COMMAND_NOT_BUILT",
    message: `This version of Floe does not have the command ${command}; nothing was touched`,
    remedy: ["Use a newer version of Floe"],
  });
}
