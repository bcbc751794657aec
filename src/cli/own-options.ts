/**
 * Options of Floe's own commands: few, and with the same words as CRIU's where they mean the same.
 */
import type { OptionSpec } from "./options/spec.js";
import { OPTIONS } from "./options/table.js";

const SAME = [
  "leave-running", "leave-stopped", "pre-copy", "snapshot", "every", "rounds", "compress", "share-pages", "prev-images-dir", "auto-dedup", "shell-job", "timeout",  "file-validation", "file-policy", "file-locks", "link-remap", "ghost-limit", "external", "inherit-fd",
  "skip-file-rwx-check", "force-irmap", "irmap-scan-path", "pidfile",
  "tcp-established", "tcp-close", "tcp-policy", "netlink-policy", "map-ip", "skip-in-flight", "network-lock", "ext-unix-sk",
  "work-dir", "log-file", "verbosity", "display-stats", "extra", "experimental", "all", "feature", "help", "version",
]; // biome-ignore format: one word a line says no more

/** `-o` is the directory here, as with other tools; the log file keeps its long name. */
export const OWN_OPTIONS: readonly OptionSpec[] = [
  {
    kind: "text",
    name: "output",
    short: "o",
    key: "imagesDir",
    argumentName: "DIR",
    built: true,
    help: "dump: directory of the images (./floe-PID by default); -: standard output",
  },
  {
    kind: "flag",
    name: "detach",
    short: "d",
    key: "restoreDetached",
    negatable: false,
    built: true,
    help: "restore: return when the tree runs, instead of waiting for it",
  },
  {
    kind: "flag",
    name: "lazy",
    key: "lazy",
    negatable: false,
    built: true,
    help: "restore: return at once; memory comes when it is needed, and behind",
  },
  { kind: "flag", name: "json", key: "json", negatable: false, built: true, help: "show: for programs" },
  ...OPTIONS.filter((spec) => SAME.includes(spec.name)).map((spec) => (spec.name === "log-file" ? withoutShort(spec) : spec)),
];

function withoutShort(spec: OptionSpec): OptionSpec {
  const { short: _, ...rest } = spec;
  return rest;
}
