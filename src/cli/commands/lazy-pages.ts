/**
 * `criu lazy-pages`, and the process that `floe restore --lazy` leaves behind until all memory is there.
 */
import { rmSync } from "node:fs";
import { becomeBackground, startBackground } from "../../engine/background.js";
import { type DaemonOptions, fillForRestore, listenForRestore, serveRestore } from "../../engine/lazy/daemon.js";
import type { FillOrder } from "../../engine/lazy/hand-over.js";
import { openLog } from "../../engine/log.js";
import { requireImages } from "../../engine/page-server/receive.js";
import { DEFAULT_VERBOSITY } from "../options/special.js";
import { resolvePeer } from "../options/peer.js";
import type { Settings } from "../options/spec.js";
import { checkDirectories, closeDescriptors, tellReady, withLog } from "../session.js";
import { writePidOf } from "./page-server.js";

/** What a daemon in the background is told. */
interface Order {
  readonly settings: Settings;
  readonly listening: number;
}

export function lazyPagesCommand(settings: Settings): number {
  closeDescriptors(settings);
  checkDirectories(settings);
  const { imagesDir, workDir } = daemonOptions(settings);
  requireImages(imagesDir);
  const listening = listenForRestore(workDir);
  if (!settings.restoreDetached) {
    const pidfile = writePidOf(process.pid, settings);
    tellReady(settings);
    try {
      return serve({ settings, listening });
    } finally {
      if (pidfile !== undefined) rmSync(pidfile, { force: true });
    }
  }
  const order: Order = { settings: { ...settings, statusFd: undefined, pidfile: undefined }, listening };
  const also = settings.psSocket === undefined ? [] : [settings.psSocket];
  writePidOf(startBackground("lazy-pages", order, [listening, ...also]), settings);
  tellReady(settings);
  return 0;
}

/** What the process in the background does. */
export function lazyPagesInBackground(order: Order): number {
  becomeBackground([order.listening]);
  return serve(order);
}

function serve({ settings, listening }: Order): number {
  withLog(settings, (log) => serveRestore(listening, daemonOptions(settings), log));
  return 0;
}

function daemonOptions(settings: Settings): DaemonOptions {
  const imagesDir = settings.imagesDir ?? ".";
  return { imagesDir, workDir: settings.workDir ?? imagesDir, pageServer: settings.pageServer ? resolvePeer(settings) : undefined };
}

/** The process that a lazy restore starts. */
export function fillInBackground({ channel, imagesDir, received, logFile, verbosity }: FillOrder): number {
  becomeBackground(received === undefined ? [channel] : [channel, received]);
  const log = openLog({ level: verbosity ?? DEFAULT_VERBOSITY, ...(logFile === undefined ? {} : { file: logFile }) });
  try {
    fillForRestore(channel, imagesDir, log);
    return 0;
  } catch (error) {
    log.error(error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    log.close();
  }
}
