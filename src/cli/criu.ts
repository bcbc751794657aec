/**
 * `criu`: the words, options, outputs and exit codes that scripts and container engines know.
 */
import { UsageError } from "../errors.js";
import { readSettings } from "./options/read.js";
import type { Command } from "./options/spec.js";
import { COMMANDS } from "./options/spec.js";
import { refuseUnbuilt } from "./options/evaluate.js";
import type { Request } from "./options/read.js";

const UNBUILT: readonly Command[] = ["page-server", "lazy-pages", "service", "swrk"];

export async function criu(words: readonly string[]): Promise<number> {
  const request = readSettings(words);
  const { settings, operands } = request;
  if (settings.version) return print((await import("./version.js")).criuVersion());
  if (settings.help) return print((await import("./help.js")).criuHelp());
  const command = COMMANDS.find((c) => c === operands[0]);
  if (command === undefined) return usage(operands[0]);
  checkOperands(command, operands.slice(1));
  if (UNBUILT.includes(command)) throw commandNotBuilt(command);
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
    case "check":
      return (await import("./commands/check.js")).checkCommand(settings);
    default:
      throw commandNotBuilt([command, ...operands.slice(1)].join(" "));
  }
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

async function usage(word: string | undefined): Promise<number> {
  if (word !== undefined) process.stderr.write(`Error: unknown command: ${word}\n`);
  process.stdout.write((await import("./help.js")).criuUsage());
  return 1;
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
