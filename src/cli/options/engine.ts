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
    skipInFlight: settings.skipInFlight,
    extUnixSk: settings.extUnixSk,
    extUnixSkInodes: settings.extUnixSkInodes,
    networkLock: settings.networkLock,
    external: settings.external,
    inheritFd: settings.inheritFd,
    fileValidation: settings.fileValidation,
    filePolicy: settings.filePolicy ?? DEFAULT_POLICY.filePolicy,
    skipFileRwxCheck: settings.skipFileRwxCheck,
    lsmProfile: settings.lsmProfile,
    allowUprobes: settings.allowUprobes,
  };
}

export function dumpOptions(settings: Settings, tree: number): DumpOptions {
  return {
    ...commonOptions(settings),
    tree,
    leaveRunning: settings.leaveRunning,
    leaveStopped: settings.leaveStopped,
    timeoutS: settings.timeoutS ?? DEFAULT_TIMEOUT_S,
    preCopy: settings.preCopy,
    prevImagesDir: settings.prevImagesDir,
    autoDedup: settings.autoDedup,
  };
}

export function preDumpOptions(settings: Settings, tree: number): PreDumpOptions {
  return { ...commonOptions(settings), tree, prevImagesDir: settings.prevImagesDir, autoDedup: settings.autoDedup };
}

export function restoreOptions(settings: Settings, command: readonly string[] | undefined): RestoreOptions {
  const common = commonOptions(settings);
  return {
    ...common,
    restoreDetached: settings.restoreDetached,
    leaveStopped: settings.leaveStopped,
    pidfile: settings.pidfile === undefined ? undefined : resolve(common.workDir, settings.pidfile),
    execCmd: command,
    autoDedup: settings.autoDedup,
  };
}
