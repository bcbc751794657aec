/**
 * What an option of the command line is: its names, its argument, what it sets, and whether it is built.
 *
 * One table of these serves the command line, configuration files, the help text and, by the RPC field names, the service.
 */
import type { CompressSetting } from "../../engine/options.js";
import type { AddressPair, NetlinkPolicy, FilePolicies, TcpPolicies } from "../../resources/policy.js";

/** Commands of CRIU, as the words on its command line. */
export const COMMANDS = [
  "dump",
  "pre-dump",
  "restore",
  "check",
  "page-server",
  "lazy-pages",
  "service",
  "swrk",
  "dedup",
  "cpuinfo",
  "exec",
  "show",
] as const;
export type Command = (typeof COMMANDS)[number];

export type CgroupsMode = "none" | "props" | "soft" | "full" | "strict" | "ignore";

/** Everything that options can set. `undefined` and empty lists: nobody said anything. */
export interface Settings {
  tree: number | undefined;
  restoreDetached: boolean;
  restoreSibling: boolean;
  leaveStopped: boolean;
  leaveRunning: boolean;
  imagesDir: string | undefined;
  workDir: string | undefined;
  prevImagesDir: string | undefined;
  pidfile: string | undefined;
  root: string | undefined;
  execCmd: boolean;
  freezeCgroup: string | undefined;
  timeoutS: number | undefined;
  cpuCap: string | undefined;
  close: number[];
  unprivileged: boolean;
  stream: boolean;
  mntnsCompatMode: boolean;
  weakSysctls: boolean;
  allowUprobes: boolean;
  external: string[];
  inheritFd: string[];
  joinNs: string[];
  emptyNs: string[];
  extMountMap: string[];
  enableExternalSharing: boolean;
  enableExternalMasters: boolean;
  skipMnt: string[];
  enableFs: string[];
  extUnixSk: boolean;
  extUnixSkInodes: number[];
  vethPair: string[];
  libdir: string | undefined;
  actionScript: string[];
  shellJob: boolean;
  fileLocks: boolean;
  tcpEstablished: boolean;
  skipInFlight: boolean;
  tcpClose: boolean;
  tcpPolicy: TcpPolicies | undefined;
  mapIp: AddressPair[];
  netlinkPolicy: NetlinkPolicy;
  networkLock: "auto" | "iptables" | "nftables" | "skip";
  evasiveDevices: boolean;
  linkRemap: boolean;
  ghostLimitBytes: number | undefined;
  ghostFiemap: boolean;
  forceIrmap: boolean;
  irmapScanPath: string[];
  fileValidation: "filesize" | "buildid";
  preCopy: "auto" | "always" | "never";
  compress: CompressSetting | undefined;
  sharePages: boolean;
  snapshot: "auto" | "always" | "never";
  everyS: number | undefined;
  rounds: number | undefined;
  filePolicy: FilePolicies | undefined;
  skipFileRwxCheck: boolean;
  lsmProfile: string | undefined;
  lsmMountContext: string | undefined;
  manageCgroups: CgroupsMode | undefined;
  cgroupRoot: string[];
  cgroupProps: string | undefined;
  cgroupPropsFile: string | undefined;
  cgroupDumpController: string[];
  cgroupYard: string | undefined;
  trackMem: boolean;
  preDumpMode: "splice" | "read";
  autoDedup: boolean;
  pageServer: boolean;
  lazyPages: boolean;
  /** Only of floe restore. */
  lazy: boolean;
  address: string | undefined;
  port: number | undefined;
  psSocket: number | undefined;
  statusFd: number | undefined;
  tls: boolean;
  tlsCacert: string | undefined;
  tlsCacrl: string | undefined;
  tlsCert: string | undefined;
  tlsKey: string | undefined;
  tlsNoCnVerify: boolean;
  extra: boolean;
  experimental: boolean;
  all: boolean;
  feature: string | undefined;
  logFile: string | undefined;
  logPid: boolean;
  verbosity: number | undefined;
  displayStats: boolean;
  config: string | undefined;
  noDefaultConfig: boolean;
  deprecated: boolean;
  ms: boolean;
  help: boolean;
  version: boolean;
  /** Only of Floe's own commands. */
  json: boolean;
  /** Options of the command line that are those of other commands. */
  withoutEffect: string[];
}

/** Keys of the settings whose type is exactly V. */
type KeysOf<V> = { [K in keyof Settings]: [Settings[K], V] extends [V, Settings[K]] ? K : never }[keyof Settings];
export type FlagKey = KeysOf<boolean>;
export type TextKey = KeysOf<string | undefined>;
export type NumberKey = KeysOf<number | undefined>;
export type ListKey = KeysOf<string[]>;

/** What all options have. */
interface Common {
  readonly name: string;
  readonly short?: string;
  /** How the help names the argument. */
  readonly argumentName?: string;
  readonly help: string;
  /** Field of criu_opts that means the same. */
  readonly rpc?: string;
  /** Commands it concerns; all of them when absent. Elsewhere it is accepted and has no effect, as with CRIU; the log says so. */
  readonly commands?: readonly Command[];
  /** False: understood, and refused by name before anything is touched. A function judges the value. */
  readonly built: boolean | ((settings: Settings) => boolean);
}

export interface FlagSpec extends Common {
  readonly kind: "flag";
  readonly key: FlagKey;
  /** There is a `--no-` form. */
  readonly negatable: boolean;
}

export interface TextSpec extends Common {
  readonly kind: "text";
  readonly key: TextKey;
}

export interface ListSpec extends Common {
  readonly kind: "list";
  readonly key: ListKey;
}

export interface NumberSpec extends Common {
  readonly kind: "number";
  readonly key: NumberKey;
  readonly min: number;
  readonly max: number;
}

/** An option with rules of its own. */
export interface SpecialSpec extends Common {
  readonly kind: "special";
  readonly argument: "required" | "optional";
  /** Sets from the text given; false: the text is no good. */
  readonly apply: (settings: Settings, text: string | undefined) => boolean;
  /** What a good text is, for the message. */
  readonly expects: string;
  /** Back to what it is when nobody says anything. */
  readonly isSet: (settings: Settings) => boolean;
}

export type OptionSpec = FlagSpec | TextSpec | ListSpec | NumberSpec | SpecialSpec;

/** Whether an option takes an argument. */
export function argumentOf(spec: OptionSpec): "none" | "required" | "optional" {
  if (spec.kind === "flag") return "none";
  return spec.kind === "special" ? spec.argument : "required";
}

/** Whether somebody set it to something that asks for work. */
export function isSet(spec: OptionSpec, settings: Settings): boolean {
  switch (spec.kind) {
    case "flag":
      return settings[spec.key];
    case "text":
      return settings[spec.key] !== undefined;
    case "number":
      return settings[spec.key] !== undefined;
    case "list":
      return settings[spec.key].length > 0;
    case "special":
      return spec.isSet(settings);
  }
}
