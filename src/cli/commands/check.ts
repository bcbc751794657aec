/**
 * `check`: the same words and exit codes for `criu` and `floe`.
 */
import { print, printError } from "../output.js";
import { UsageError } from "../../errors.js";
import { FEATURES, type Finding, check, checkFeature } from "../../engine/check/check.js";
import type { Settings } from "../options/spec.js";

const GOOD = "Looks good.\n";
const PARTLY =
  "Looks good but some kernel features are missing\nwhich, depending on your process tree, may cause\ndump or restore failure.\n";
const BAD = "Does not look good.\n";

export function checkCommand(settings: Settings): number {
  const { feature } = settings;
  if (settings.ms) {
    throw new UsageError({
      code: "OPTION_GONE",
      message: "--ms does not exist any longer",
      remedy: ["Use --extra, --experimental or --all"],
    });
  }
  if (feature !== undefined) return feature === "list" ? listFeatures() : oneFeature(feature);
  const { required, optional } = check({ extra: settings.extra || settings.all, experimental: settings.experimental || settings.all });
  for (const finding of [...required, ...optional]) warn(finding);
  const isUsable = required.every(isThere);
  const isComplete = optional.every(isThere);
  print(!isUsable ? BAD : isComplete ? GOOD : PARTLY);
  return isUsable && isComplete ? 0 : 1;
}

const isThere = ({ lacking }: Finding) => lacking === undefined;

function listFeatures(): number {
  print(FEATURES.map(({ name }) => `${name}\n`).join(""));
  return 0;
}

function oneFeature(name: string): number {
  const finding = checkFeature(name);
  if (isThere(finding)) {
    print(`${name} is supported\n`);
    return 0;
  }
  warn(finding);
  return 1;
}

function warn({ name, lacking }: Finding): void {
  if (lacking !== undefined) printError(`Warn  (floe): ${name}: ${lacking}\n`);
}
