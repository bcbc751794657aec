/**
 * What the engine can be asked for. The words are CRIU's, in camel case; every front (command line, configuration files,
 * RPC) fills in these records from the one options table.
 */
import type { PolicyOptions } from "../resources/policy.js";

/** Options of every action that works on an image directory. */
export interface CommonOptions extends PolicyOptions {
  readonly imagesDir: string;
  /** Directory of logs, pid files, statistics; the images directory by default. */
  readonly workDir: string;
  readonly displayStats: boolean;
  /** Called now and then with how far long work is, also while a tree stands still: it must be quick. */
  readonly progress?: ProgressHook;
}

/** How far a piece of long work is. */
export interface Progress {
  /** What is being done, as in `writing memory`. */
  readonly doing: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}
export type ProgressHook = (progress: Progress) => void;

export interface DumpOptions extends CommonOptions {
  /** Root of the tree to dump. */
  readonly tree: number;
  readonly leaveRunning: boolean;
  readonly leaveStopped: boolean;
  /** Limit for the tree to stand still, in seconds. */
  readonly timeoutS: number;
  /** Whether memory is copied while the tree still runs: where it is worth it, wherever possible, or not at all. */
  readonly preCopy?: "auto" | "always" | "never";
  /** Images of the dump before, relative to the images directory: these become the difference to them. */
  readonly prevImagesDir?: string | undefined;
  /** Take pages out of older images that these have as well. */
  readonly autoDedup?: boolean;
}

/** Options of a pre-dump. */
export interface PreDumpOptions extends CommonOptions {
  readonly tree: number;
  readonly prevImagesDir?: string | undefined;
  readonly autoDedup?: boolean;
}

export interface RestoreOptions extends CommonOptions {
  /** Take pages out of the images once they are back in memory. */
  readonly autoDedup?: boolean;
  /** Return when the tree runs, instead of waiting for its root to end. */
  readonly restoreDetached: boolean;
  readonly leaveStopped: boolean;
  /** File that gets the pid of the restored root. */
  readonly pidfile: string | undefined;
  /** Program that replaces Floe after the restore and so becomes the parent of the tree. */
  readonly execCmd: readonly string[] | undefined;
}

/** How long a tree may take to stand still when nobody says, in seconds. */
export const DEFAULT_TIMEOUT_S = 10;

/** Values of everything that the user did not say. */
export const DEFAULT_POLICY: PolicyOptions = {
  shellJob: false,
  fileLocks: false,
  linkRemap: false,
  ghostLimitBytes: 1 << 20,
  tcpEstablished: false,
  tcpClose: false,
  tcpPolicy: { general: undefined, byPort: new Map() },
  mapIp: [],
  skipInFlight: false,
  extUnixSk: false,
  extUnixSkInodes: [],
  networkLock: "iptables",
  external: [],
  inheritFd: [],
  fileValidation: "buildid",
  skipFileRwxCheck: false,
  filePolicy: { general: "strict", byPath: new Map() },
};
