/**
 * Options as given, folded into settings.
 */
import { UsageError } from "../../errors.js";
import type { Given } from "./getopt.js";
import { type OptionSpec, type Settings, isSet } from "./spec.js";
import { OPTIONS } from "./table.js";
import { parseNumber } from "./values.js";

/** Sets what was given, in order; a later one wins. `from` says where it stands, for messages. */
export function applyGiven(settings: Settings, given: readonly Given[], from?: string): void {
  for (const option of given) applyOne(settings, option, from);
}

function applyOne(settings: Settings, { spec, negated, text, written }: Given, from: string | undefined): void {
  switch (spec.kind) {
    case "flag":
      settings[spec.key] = !negated;
      return;
    case "text":
      settings[spec.key] = text ?? "";
      return;
    case "list":
      settings[spec.key].push(text ?? "");
      return;
    case "number": {
      const value = parseNumber(text ?? "");
      if (value === undefined || value < spec.min || value > spec.max) {
        throw badValue(written, text, `a number from ${spec.min} to ${spec.max}`, from);
      }
      settings[spec.key] = value;
      return;
    }
    case "special":
      if (!spec.apply(settings, text)) throw badValue(written, text, spec.expects, from);
  }
}

function badValue(written: string, text: string | undefined, expects: string, from: string | undefined): UsageError {
  return new UsageError({
    code: "OPTION_BAD_VALUE",
    message: `${from === undefined ? "" : `${from}: `}Cannot use "${text ?? ""}" for ${written}: it must be ${expects}`,
    remedy: [`Give ${written} ${expects}`],
  });
}

/** Options that are set and that Floe does not have yet. */
export function unbuiltOptions(settings: Settings): OptionSpec[] {
  return OPTIONS.filter((spec) => isSet(spec, settings)).filter((spec) => {
    return typeof spec.built === "function" ? !spec.built(settings) : !spec.built;
  });
}

/** Where an option is built for some commands only. */
export function refuseOption(name: string): never {
  throw new UsageError({
    code: "OPTION_NOT_BUILT",
    message: `This version of Floe does not have --${name} here; nothing was touched`,
    remedy: ["Leave it out if the process does not need it, or use a newer version of Floe"],
  });
}

/** Refuses, by name, every option that is not built, before anything is touched. */
export function refuseUnbuilt(settings: Settings): void {
  const names = unbuiltOptions(settings).map((spec) => `--${spec.name}`);
  if (names.length === 0) return;
  throw new UsageError({
    code: "OPTION_NOT_BUILT",
    message: `This version of Floe does not have ${names.join(", ")}; nothing was touched`,
    remedy: ["Leave it out if the process does not need it, or use a newer version of Floe"],
  });
}
