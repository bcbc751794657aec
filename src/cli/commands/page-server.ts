/**
 * `criu page-server`.
 */
import { print } from "../output.js";
import { rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { UsageError } from "../../errors.js";
import { becomeBackground, startBackground } from "../../engine/background.js";
import { type Listening, listenAt } from "../../engine/page-server/address.js";
import { type PageServerOptions, servePages } from "../../engine/page-server/serve.js";
import { requireImages } from "../../engine/page-server/receive.js";
import { storeOptions } from "../options/engine.js";
import { resolvePeer } from "../options/peer.js";
import type { Settings } from "../options/spec.js";
import { checkDirectories, closeDescriptors, tellReady, withLog } from "../session.js";

/** What a server in the background is told. */
interface Order {
  readonly settings: Settings;
  readonly from: Listening | number;
}

export function pageServerCommand(settings: Settings): number {
  closeDescriptors(settings);
  checkDirectories(settings);
  const { peer } = serverOptions(settings);
  if (settings.lazyPages) requireImages(settings.imagesDir ?? ".");
  const from = peer.socket ?? listenAt(peer);
  if (!settings.restoreDetached) {
    const pidfile = writePidOf(process.pid, settings);
    if (typeof from !== "number") print(`Waiting at ${from.name}\n`);
    tellReady(settings);
    try {
      return serve({ settings, from });
    } finally {
      if (pidfile !== undefined) rmSync(pidfile, { force: true });
    }
  }
  // It listens already: whoever comes before the server is up waits for it.
  const order: Order = { settings: { ...settings, statusFd: undefined, pidfile: undefined }, from };
  const pid = startBackground("page-server", order, [typeof from === "number" ? from : from.fd]);
  writePidOf(pid, settings);
  if (typeof from !== "number") print(`Waiting at ${from.name}\n`);
  tellReady(settings);
  return 0;
}

/** What the process in the background does. */
export function pageServerInBackground(order: Order): number {
  becomeBackground([typeof order.from === "number" ? order.from : order.from.fd]);
  return serve(order);
}

function serve({ settings, from }: Order): number {
  withLog(settings, (log) => servePages(from, serverOptions(settings), log));
  return 0;
}

function serverOptions(settings: Settings): PageServerOptions {
  return {
    imagesDir: settings.imagesDir ?? ".",
    prevImagesDir: settings.prevImagesDir,
    autoDedup: settings.autoDedup,
    pages: storeOptions(settings),
    lazyPages: settings.lazyPages,
    peer: resolvePeer(settings),
  };
}

/** Writes --pidfile, relative to the work directory. */
export function writePidOf(pid: number, settings: Settings): string | undefined {
  if (settings.pidfile === undefined) return undefined;
  const path = resolve(settings.workDir ?? settings.imagesDir ?? ".", settings.pidfile);
  try {
    writeFileSync(path, String(pid), { mode: 0o600, flag: "wx" });
    return path;
  } catch (cause) {
    throw new UsageError({
      code: "PIDFILE_NOT_WRITABLE",
      message: `Cannot write pid file "${path}": ${cause instanceof Error ? cause.message : String(cause)}`,
      remedy: ["Name a file that does not exist, in a directory that does"],
      cause,
    });
  }
}
