/**
 * Names of watched files around a dump: searched for before the freeze, with what pre-dumps have left in the work directory and
 * in the images before.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ImageError } from "../errors.js";
import { imageFileName } from "../images/kinds.js";
import { DirectorySink } from "../images/sink.js";
import { DirectorySource } from "../images/source.js";
import { findWatched, readCache, writeCache } from "../resources/watches/irmap.js";
import type { Irmap } from "../resources/watches/places.js";
import type { Logger } from "./log.js";
import type { CommonOptions } from "./options.js";

/** What has to be searched for, and was found. */
export function searchWatched(
  pids: readonly number[],
  options: CommonOptions,
  tools: { log: Logger; parent: DirectorySource | undefined },
): Irmap {
  const { log, parent } = tools;
  const started = performance.now();
  const isThere = existsSync(join(options.workDir, imageFileName("IRMAP_CACHE", [])));
  const sources = [...(isThere ? [new DirectorySource(options.workDir)] : []), ...(parent === undefined ? [] : [parent])];
  const found = findWatched(pids, options, known(sources, log));
  if (found.size > 0) log.debug(`names of ${found.size} watched files were searched for, ${Math.round(performance.now() - started)} ms`);
  return found;
}

/** They are hints only: without them the search takes longer. */
function known(sources: readonly DirectorySource[], log: Logger): Irmap {
  try {
    return readCache(sources);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    log.warn(`what a pre-dump found is not used: ${error.message}`);
    return new Map();
  }
}

/** Writes the irmap-cache of a pre-dump into the work directory; no such file when nothing is watched. */
export function saveWatched(pids: readonly number[], options: CommonOptions): void {
  const sink = new DirectorySink(options.workDir);
  writeCache(pids, options, sink);
  sink.finish();
}
