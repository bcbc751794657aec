/**
 * Check: what the kernel must have, what it had better have, and what is of use in rare cases.
 */
import { UsageError } from "../../errors.js";
import { fileFeatures, requiredFiles } from "./file-probes.js";
import { memoryFeatures, requiredMemory } from "./memory-probes.js";
import { networkFeatures, requiredNetwork } from "./network-probes.js";
import type { Probe } from "./probe.js";
import { requiredTasks, taskFeatures } from "./task-probes.js";

/** Probes that every dump and restore needs. */
export const REQUIRED: readonly Probe[] = [...requiredMemory, ...requiredTasks, ...requiredFiles, ...requiredNetwork];

/** Everything that has a name for `check --feature`. */
export const FEATURES: readonly Probe[] = [...fileFeatures, ...memoryFeatures, ...networkFeatures, ...taskFeatures];

const EXPERIMENTAL_NAMES = ["autofs", "compat_cr"];
/**
 * Tell something about the machine or about Floe; a kernel without them lacks nothing that a dump or restore needs. Some
 * virtual machines have breakpoints at one moment and lack them at the next.
 */
const INFORMATION_NAMES = ["has_ipt_legacy", "apparmor_stacking", "external_net_ns", "breakpoints"];

export const EXPERIMENTAL: readonly Probe[] = FEATURES.filter(({ name }) => EXPERIMENTAL_NAMES.includes(name));
export const EXTRA: readonly Probe[] = FEATURES.filter(({ name }) => ![...EXPERIMENTAL_NAMES, ...INFORMATION_NAMES].includes(name));

/** What a probe found: undefined when the feature is there, otherwise why not. */
export interface Finding {
  readonly name: string;
  readonly lacking: string | undefined;
}

export function tryProbe({ name, attempt }: Probe): Finding {
  try {
    attempt();
    return { name, lacking: undefined };
  } catch (error) {
    return { name, lacking: error instanceof Error ? error.message : String(error) };
  }
}

/** Tries the feature of that name. */
export function checkFeature(name: string): Finding {
  const probe = FEATURES.find((feature) => feature.name === name);
  if (probe === undefined) {
    throw new UsageError({ code: "FEATURE_UNKNOWN", message: `Unknown feature ${name}`, remedy: ["See check --feature list"] });
  }
  return tryProbe(probe);
}

export interface CheckResult {
  readonly required: readonly Finding[];
  readonly optional: readonly Finding[];
}

/** Tries what is required, and the other categories that are asked for. */
export function check({ extra, experimental }: { extra: boolean; experimental: boolean }): CheckResult {
  const optional = [...(extra ? EXTRA : []), ...(experimental ? EXPERIMENTAL : [])];
  return { required: REQUIRED.map(tryProbe), optional: optional.map(tryProbe) };
}
