/**
 * CRIU's complete option table.
 */
import type { OptionSpec } from "./spec.js";
import { checkOptions, genericOptions, loggingOptions, otherOptions } from "./table-generic.js";
import { memoryOptions, serverOptions } from "./table-memory.js";
import { externalOptions, resourceOptions } from "./table-resources.js";

/** Options by section of the help. */
export const OPTION_SECTIONS: readonly (readonly [title: string, options: readonly OptionSpec[]])[] = [
  ["Dump and restore", genericOptions],
  ["External resources", externalOptions],
  ["Special resources", resourceOptions],
  ["Check", checkOptions],
  ["Logging", loggingOptions],
  ["Memory", memoryOptions],
  ["Page server and service", serverOptions],
  ["Configuration and other", otherOptions],
];

export const OPTIONS: readonly OptionSpec[] = OPTION_SECTIONS.flatMap(([, options]) => options);
