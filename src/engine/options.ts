/**
 * What the engine can be asked for. The words are CRIU's, in camel case; every front (command line, configuration files,
 * RPC) fills in these records from the one options table.
 */
import type { CodecName } from "../images/store/levels.js";
import type { StoreOptions } from "../images/store/write.js";
import type { StreamChoice } from "./stream/folder.js";
import type { PolicyOptions } from "../resources/policy.js";
import type { PeerAddress } from "./page-server/options.js";
import type { LazySource } from "./page-server/source.js";

/** How pages are to be compressed. */
export interface CompressSetting {
  readonly codec: CodecName;
  readonly level: number;
}

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
  /** Over what the images go, instead of into the images directory. */
  readonly stream?: StreamChoice | undefined;
  /** Root of the tree to dump. */
  readonly tree: number;
  readonly leaveRunning: boolean;
  readonly leaveStopped: boolean;
  /** Limit for the tree to stand still, in seconds. */
  readonly timeoutS: number;
  /** Whether memory is copied while the tree still runs: where it is worth it, wherever possible, or not at all. */
  readonly preCopy?: "auto" | "always" | "never";
  /** What becomes of pages; by default they are in plain images. */
  readonly pages?: StoreOptions | undefined;
  /** Whether memory of a tree that runs on is saved from copy-on-write copies: where it is better, wherever possible, or not at all. */
  readonly snapshot?: "auto" | "always" | "never";
  /** Images of the dump before, relative to the images directory: these become the difference to them. */
  readonly prevImagesDir?: string | undefined;
  /** Take pages out of older images that these have as well. */
  readonly autoDedup?: boolean;
  /** Where pages go instead of the images directory. */
  readonly pageServer?: PeerAddress | undefined;
  /** Leave memory where it is, and serve it until the destination has all of it. */
  readonly lazySource?: LazySource | undefined;
}

/** Options of a pre-dump. */
export interface PreDumpOptions extends CommonOptions {
  readonly stream?: StreamChoice | undefined;
  readonly tree: number;
  readonly pages?: StoreOptions | undefined;
  readonly prevImagesDir?: string | undefined;
  readonly autoDedup?: boolean;
  readonly pageServer?: PeerAddress | undefined;
}

export interface RestoreOptions extends CommonOptions {
  /** Over what the images come, instead of from the images directory. */
  readonly stream?: StreamChoice | undefined;
  /** Where the images are here that those of a stream are the difference to. */
  readonly prevImagesDir?: string | undefined;
  /** Memory comes after the tree runs: from a lazy-pages daemon, or by a process of our own. */
  readonly lazyPages?: "daemon" | "own" | undefined;
  /** The log of that process. */
  readonly lazyLog?: { readonly file: string | undefined; readonly level: number };
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
  networkLock: "auto",
  external: [],
  inheritFd: [],
  fileValidation: "buildid",
  skipFileRwxCheck: false,
  filePolicy: { general: undefined, byPath: new Map() },
};
