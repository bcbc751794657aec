/**
 * Settings of the command line as options of the engine.
 */
import { resolve } from "node:path";
import {
  DEFAULT_POLICY,
  DEFAULT_TIMEOUT_S,
  type CommonOptions,
  type DumpOptions,
  type PreDumpOptions,
  type RestoreOptions,
} from "../../engine/options.js";
import { DEFAULT_VERBOSITY } from "./special.js";
import type { StoreOptions } from "../../images/store/write.js";
import type { StreamChoice } from "../../engine/stream/folder.js";
import { UsageError } from "../../errors.js";
import { resolvePeer } from "./peer.js";
import type { Settings } from "./spec.js";

function commonOptions(settings: Settings): CommonOptions {
  const imagesDir = settings.imagesDir ?? ".";
  return {
    imagesDir,
    workDir: settings.workDir ?? imagesDir,
    displayStats: settings.displayStats,
    shellJob: settings.shellJob,
    fileLocks: settings.fileLocks,
    linkRemap: settings.linkRemap,
    ghostLimitBytes: settings.ghostLimitBytes ?? DEFAULT_POLICY.ghostLimitBytes,
    tcpEstablished: settings.tcpEstablished,
    tcpClose: settings.tcpClose,
    tcpPolicy: settings.tcpPolicy ?? DEFAULT_POLICY.tcpPolicy,
    mapIp: settings.mapIp,
    netlinkPolicy: settings.netlinkPolicy,
    skipInFlight: settings.skipInFlight,
    extUnixSk: settings.extUnixSk,
    extUnixSkInodes: settings.extUnixSkInodes,
    networkLock: settings.networkLock,
    external: settings.external,
    inheritFd: settings.inheritFd,
    fileValidation: settings.fileValidation,
    filePolicy: settings.filePolicy ?? DEFAULT_POLICY.filePolicy,
    forceIrmap: settings.forceIrmap,
    irmapScanPaths: settings.irmapScanPath,
    skipFileRwxCheck: settings.skipFileRwxCheck,
    lsmProfile: settings.lsmProfile,
    allowUprobes: settings.allowUprobes,
  };
}

/** CRIU's --stream; what our own commands do with `-` is decided there. */
function streamChoice({ stream, prevImagesDir, autoDedup, lazyPages, pageServer }: Settings): StreamChoice | undefined {
  if (!stream) return undefined;
  const others: readonly (readonly [string, boolean])[] = [
    ["--prev-images-dir", prevImagesDir !== undefined],
    ["--auto-dedup", autoDedup],
    ["--lazy-pages", lazyPages],
    ["--page-server", pageServer],
  ];
  const other = others.find(([, isSet]) => isSet);
  if (other !== undefined) throw contradiction("--stream", other[0]);
  return { kind: "streamer" };
}

/** Two options that exclude each other. */
export function contradiction(one: string, other: string): UsageError {
  return new UsageError({
    code: "OPTIONS_CONTRADICT",
    message: `Cannot have ${one} together with ${other}`,
    remedy: [`Leave out one of ${one} and ${other}`],
  });
}

/** What the words about pages come to; undefined: plain images. */
export function storeOptions({ compress, sharePages }: Settings): StoreOptions | undefined {
  if (compress === undefined && !sharePages) return undefined;
  return { codec: "none", level: 0, ...compress, share: sharePages };
}

export function dumpOptions(settings: Settings, tree: number): DumpOptions {
  return {
    ...commonOptions(settings),
    tree,
    leaveRunning: settings.leaveRunning,
    leaveStopped: settings.leaveStopped,
    timeoutS: settings.timeoutS ?? DEFAULT_TIMEOUT_S,
    preCopy: settings.preCopy,
    pages: storeOptions(settings),
    snapshot: settings.snapshot,
    stream: streamChoice(settings),
    prevImagesDir: settings.prevImagesDir,
    autoDedup: settings.autoDedup,
    pageServer: settings.pageServer ? resolvePeer(settings) : undefined,
  };
}

export function preDumpOptions(settings: Settings, tree: number): PreDumpOptions {
  const pageServer = settings.pageServer ? resolvePeer(settings) : undefined;
  return {
    ...commonOptions(settings),
    tree,
    prevImagesDir: settings.prevImagesDir,
    autoDedup: settings.autoDedup,
    pageServer,
    pages: storeOptions(settings),
    stream: streamChoice(settings),
  };
}

export function restoreOptions(settings: Settings, command: readonly string[] | undefined): RestoreOptions {
  const common = commonOptions(settings);
  return {
    ...common,
    restoreDetached: settings.restoreDetached,
    leaveStopped: settings.leaveStopped,
    pidfile: settings.pidfile === undefined ? undefined : resolve(common.workDir, settings.pidfile),
    execCmd: command,
    lazyPages: settings.lazy ? "own" : settings.lazyPages ? "daemon" : undefined,
    lazyLog: {
      file: settings.logFile === undefined ? undefined : `${resolve(common.workDir, settings.logFile)}.lazy`,
      level: settings.verbosity ?? DEFAULT_VERBOSITY,
    },
    autoDedup: settings.autoDedup,
    stream: streamChoice(settings),
  };
}
