/**
 * `floe`: our own commands. They never read CRIU's configuration files.
 */
import { print, printError } from "./output.js";
import { UsageError } from "../errors.js";
import { defaultSettings } from "./options/defaults.js";
import { applyGiven } from "./options/evaluate.js";
import { parseCommandLine } from "./options/getopt.js";
import type { Settings } from "./options/spec.js";
import { OWN_OPTIONS } from "./own-options.js";

/** The word by which Floe starts processes of its own that stay behind (engine/background.ts, which is not loaded for it). */
const BACKGROUND = "background";

const OPERANDS: Readonly<Record<string, string | undefined>> = {
  dump: "PID",
  restore: "DIR",
  show: "DIR",
  check: undefined,
  lock: "DIR",
  unlock: "[ID|stale]",
  help: undefined,
};

export async function floe(words: readonly string[]): Promise<number> {
  if (words[0] === BACKGROUND) return (await import("./commands/background.js")).backgroundCommand(words.slice(1));
  const line = parseCommandLine(words, OWN_OPTIONS);
  const settings = defaultSettings();
  applyGiven(settings, line.options);
  const [command, ...operands] = line.operands;
  if (settings.version) {
    print(`Floe ${(await import("./version.js")).floeVersion()}\n`);
    return 0;
  }
  const help = async () => (await import("./help.js")).floeHelp();
  if (settings.help || command === "help") {
    print(await help());
    return 0;
  }
  if (command === undefined) {
    printError(await help());
    return 1;
  }
  return run(command, { settings, operands: [...operands, ...(line.rest ?? [])] });
}

async function run(command: string, request: { settings: Settings; operands: readonly string[] }): Promise<number> {
  const { settings } = request;
  const operand = theOperand(command, request.operands);
  switch (command) {
    case "dump":
      return (await import("./commands/own-dump.js")).ownDump(operand, settings);
    case "restore":
      return (await import("./commands/own-restore.js")).ownRestore(operand, settings);
    case "show":
      return (await import("./show/show.js")).show(operand, settings);
    case "lock":
      return (await import("./commands/lock.js")).lockCommand(operand);
    case "unlock":
      return (await import("./commands/unlock.js")).unlockCommand(operand);
    default:
      return (await import("./commands/check.js")).checkCommand(settings);
  }
}

/** The one operand that a command needs; the empty text for one that takes none. */
function theOperand(command: string, operands: readonly string[]): string {
  if (!Object.hasOwn(OPERANDS, command)) {
    throw new UsageError({
      code: "COMMAND_UNKNOWN",
      message: `There is no command "${command}"`,
      remedy: ["See floe help for the commands there are", "Use floe criu … for the command line of CRIU"],
    });
  }
  const name = OPERANDS[command];
  const [operand, extra] = name === undefined ? ["", operands[0]] : operands;
  if (operand === undefined) {
    if (name?.startsWith("[") === true) return "";
    throw new UsageError({
      code: "OPERAND_MISSING",
      message: `Cannot ${command}: ${name} is missing`,
      remedy: [`floe ${command} ${name}`],
    });
  }
  if (extra !== undefined) {
    throw new UsageError({
      code: "OPERAND_EXCESSIVE",
      message: `Cannot use "${extra}": ${command} takes ${name ?? "no operand"}`,
      remedy: ["See floe help"],
    });
  }
  return operand;
}
