/**
 * Options with rules of their own: words out of a list, sizes, counts, optional arguments.
 */
import { LEVELS } from "../../images/store/levels.js";
import { parseIpAddress } from "../../linux/ip-text.js";
import { FILE_POLICIES, type FilePolicy, NETLINK_POLICIES, TCP_POLICIES, type TcpPolicy } from "../../resources/policy.js";
import type { CgroupsMode, Settings, SpecialSpec } from "./spec.js";
import { parseNumber, parseSize } from "./values.js";

type Rules = Pick<SpecialSpec, "argument" | "apply" | "expects" | "isSet">;

const LOCK_METHODS = { iptables: "iptables", nftables: "nftables", skip: "skip", none: "skip" } as const;
const VALIDATION = { filesize: "filesize", buildid: "buildid" } as const;
const PRE_COPY = { auto: "auto", always: "always", never: "never" } as const;
const COMPRESSORS = ["lz4", "zstd"] as const;
const PRE_DUMP_MODES = { splice: "splice", read: "read" } as const;
const CGROUP_MODES: Readonly<Record<CgroupsMode, CgroupsMode>> = {
  none: "none",
  props: "props",
  soft: "soft",
  full: "full",
  strict: "strict",
  ignore: "ignore",
};
const CPU_CAPS = ["cpu", "fpu", "all", "ins", "none"];
const MAX_VERBOSITY = 4;
/** Errors and warnings. */
export const DEFAULT_VERBOSITY = 2;

function oneOf<V extends string>(words: Readonly<Record<string, V>>, set: (settings: Settings, word: V) => void) {
  return (settings: Settings, text: string | undefined): boolean => {
    const word = text === undefined || !Object.hasOwn(words, text) ? undefined : words[text];
    if (word === undefined) return false;
    set(settings, word);
    return true;
  };
}

const quoted = (words: object) =>
  Object.keys(words)
    .map((word) => `"${word}"`)
    .join(", ");

export const networkLock: Rules = {
  argument: "required",
  expects: `one of ${quoted(LOCK_METHODS)}`,
  apply: oneOf(LOCK_METHODS, (settings, word) => (settings.networkLock = word)),
  isSet: (settings) => settings.networkLock !== "auto",
};

export const fileValidation: Rules = {
  argument: "required",
  expects: `one of ${quoted(VALIDATION)}`,
  apply: oneOf(VALIDATION, (settings, word) => (settings.fileValidation = word)),
  isSet: (settings) => settings.fileValidation !== "buildid",
};

export const lsmProfile: Rules = {
  argument: "required",
  expects: "apparmor:NAME or selinux:CONTEXT",
  apply(settings, text) {
    if (text === undefined || !/^(apparmor|selinux):./.test(text)) return false;
    settings.lsmProfile = text;
    return true;
  },
  isSet: (settings) => settings.lsmProfile !== undefined,
};

export const preCopy: Rules = {
  argument: "required",
  expects: `one of ${quoted(PRE_COPY)}`,
  apply: oneOf(PRE_COPY, (settings, word) => (settings.preCopy = word)),
  isSet: (settings) => settings.preCopy !== "auto",
};

/** `lz4`, `zstd`, or one of them with a level, as in `zstd:9`. */
export const compress: Rules = {
  argument: "required",
  expects: "lz4 or zstd, and a level if wished, as in zstd:9 (lz4: 1 to 12, zstd: 1 to 19)",
  apply(settings, text = "") {
    const [word, levelText, ...rest] = text.split(":");
    const codec = COMPRESSORS.find((name) => name === word);
    if (codec === undefined || rest.length > 0) return false;
    const { least, most, usual } = LEVELS[codec];
    const level = levelText === undefined ? usual : parseNumber(levelText);
    if (level === undefined || level < least || level > most) return false;
    settings.compress = { codec, level };
    return true;
  },
  isSet: (settings) => settings.compress !== undefined,
};

export const snapshot: Rules = {
  argument: "required",
  expects: `one of ${quoted(PRE_COPY)}`,
  apply: oneOf(PRE_COPY, (settings, word) => (settings.snapshot = word)),
  isSet: (settings) => settings.snapshot !== "auto",
};

export const preDumpMode: Rules = {
  argument: "required",
  expects: `one of ${quoted(PRE_DUMP_MODES)}`,
  apply: oneOf(PRE_DUMP_MODES, (settings, word) => (settings.preDumpMode = word)),
  isSet: (settings) => settings.preDumpMode !== "splice",
};

export const manageCgroups: Rules = {
  argument: "optional",
  expects: `one of ${quoted(CGROUP_MODES)}`,
  apply: (settings, text = "soft") => oneOf(CGROUP_MODES, (s, word) => (s.manageCgroups = word))(settings, text),
  isSet: (settings) => settings.manageCgroups !== undefined,
};

/** `-x` allows every datagram peer outside; `-x1,2` or `-x[1,2]` these inodes only. Given twice, they add up. */
export const extUnixSk: Rules = {
  argument: "optional",
  expects: 'inode numbers, as in "123,456"',
  apply(settings, text) {
    settings.extUnixSk = true;
    if (text === undefined) return true;
    const numbers = text
      .replace(/^\[(.*)\]$/, "$1")
      .split(",")
      .map(parseNumber);
    const inodes = numbers.filter((n): n is number => n !== undefined && n > 0);
    settings.extUnixSkInodes.push(...inodes);
    return inodes.length === numbers.length;
  },
  isSet: (settings) => settings.extUnixSk,
};

/** `grown`, `strict,/var/log/x=grown`: the first word without a path is for all other files. */
export const filePolicy: Rules = {
  argument: "required",
  expects: `${FILE_POLICIES.join(", ")}, or PATH and one of these, as in "strict,/var/log/x=grown"`,
  apply(settings, text = "") {
    let general = settings.filePolicy?.general;
    const byPath = new Map<string, FilePolicy>(settings.filePolicy?.byPath);
    for (const part of text.split(",")) {
      const [, path, word = ""] = /^(?:(.+)=)?([^=]*)$/.exec(part) ?? [];
      const policy = FILE_POLICIES.find((p) => p === word);
      if (policy === undefined) return false;
      if (path === undefined) general = policy;
      else byPath.set(path, policy);
    }
    settings.filePolicy = { general, byPath };
    return true;
  },
  isSet: (settings) => settings.filePolicy !== undefined,
};

const PORTS = 65_536;

/** `keep`, `close,5432=keep`: the first word without a port is for all other connections. */
export const netlinkPolicy: Rules = {
  argument: "required",
  expects: `one of ${NETLINK_POLICIES.join(", ")}`,
  apply(settings, text) {
    const policy = NETLINK_POLICIES.find((p) => p === text);
    if (policy !== undefined) settings.netlinkPolicy = policy;
    return policy !== undefined;
  },
  isSet: (settings) => settings.netlinkPolicy !== "refuse",
};

export const tcpPolicy: Rules = {
  argument: "required",
  expects: `${TCP_POLICIES.join(", ")}, or PORT and one of these, as in "close,5432=keep"`,
  apply(settings, text = "") {
    let general = settings.tcpPolicy?.general;
    const byPort = new Map<number, TcpPolicy>(settings.tcpPolicy?.byPort);
    for (const part of text.split(",")) {
      const [, port, word = ""] = /^(?:(\d+)=)?([^=]*)$/.exec(part) ?? [];
      const policy = TCP_POLICIES.find((p) => p === word);
      if (policy === undefined || Number(port ?? 1) < 1 || Number(port ?? 1) >= PORTS) return false;
      if (port === undefined) general = policy;
      else byPort.set(Number(port), policy);
    }
    settings.tcpPolicy = { general, byPort };
    return true;
  },
  isSet: (settings) => settings.tcpPolicy !== undefined,
};

/** `10.0.0.1=10.0.0.2`; given several times, or as a list, the pairs add up. */
export const mapIp: Rules = {
  argument: "required",
  expects: 'two addresses of one family, as in "10.0.0.1=10.0.0.2"',
  apply(settings, text = "") {
    return text.split(",").every((pair) => {
      const [from, to, ...more] = pair.split("=").map(parseIpAddress);
      if (from === undefined || to === undefined || from.length !== to.length || more.length > 0) return false;
      settings.mapIp.push({ from, to });
      return true;
    });
  },
  isSet: (settings) => settings.mapIp.length > 0,
};

export const ghostLimit: Rules = {
  argument: "required",
  expects: 'a size below 4G, as in "500K" or "16M"',
  apply(settings, text = "") {
    settings.ghostLimitBytes = parseSize(text);
    return settings.ghostLimitBytes !== undefined;
  },
  isSet: (settings) => settings.ghostLimitBytes !== undefined,
};

export const cpuCap: Rules = {
  argument: "optional",
  expects: `a list of ${CPU_CAPS.join(", ")}, each possibly with a "^" in front`,
  apply(settings, text = "all") {
    settings.cpuCap = text;
    return text.split(",").every((word) => CPU_CAPS.includes(word.replace(/^\^/, "")));
  },
  isSet: (settings) => settings.cpuCap !== undefined,
};

/** `-v`, `-vv`, `-v3`, `--verbosity=3`: without a number it counts up from the default. */
export const verbosity: Rules = {
  argument: "optional",
  expects: "a number",
  apply(settings, text) {
    const more = text === undefined || /^v+$/.test(text);
    const level = more ? (settings.verbosity ?? DEFAULT_VERBOSITY) + 1 + (text?.length ?? 0) : parseNumber(text);
    if (level === undefined || level < 0) return false;
    settings.verbosity = Math.min(level, MAX_VERBOSITY);
    return true;
  },
  isSet: (settings) => settings.verbosity !== undefined,
};

export const closeFd: Rules = {
  argument: "required",
  expects: "the number of a descriptor",
  apply(settings, text = "") {
    const fd = parseNumber(text);
    if (fd === undefined || fd < 0) return false;
    settings.close.push(fd);
    return true;
  },
  isSet: (settings) => settings.close.length > 0,
};
