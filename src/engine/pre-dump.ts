/**
 * Pre-dump: the memory of a tree into images, while it runs and never stops.
 *
 * What is read may be half old, half new, and that is no matter: a later dump compares every page with what these images
 * have, and leaves to them what is equal (`resources/memory/increment.ts`). So nothing has to be tracked in between.
 */
import { ftruncateSync } from "node:fs";
import { readSmaps } from "../linux/proc/read.js";
import { UsageError } from "../errors.js";
import type { DirectorySource } from "../images/source.js";
import type { DirectorySink } from "../images/sink.js";
import { distinctPlaces, pagesOfParent, thin } from "../resources/memory/increment.js";
import { findRuns } from "../resources/memory/page-runs.js";
import { type PageFigures, describePages, entries } from "../resources/memory/pages.js";
import { copyRanges, sharesPages } from "../resources/memory/precopy.js";
import { copyShared } from "../resources/memory/shared-ahead.js";
import { dedupAgainst } from "./dedup.js";
import { saveWatched } from "./irmap.js";
import { writeInventory } from "./inventory.js";
import type { Logger } from "./log.js";
import type { PreDumpOptions } from "./options.js";
import { Phases } from "./phases.js";
import { runningTree } from "./precopy.js";
import { parentFor, sinkFor } from "./page-server/sink.js";
import { requireRights } from "./rights.js";
import { writeDumpStats } from "./stats.js";

/** Copies the memory of the tree below `options.tree`. Throws with no image kept. */
export function preDump(options: PreDumpOptions, log: Logger): void {
  requireRights("dump");
  const phases = new Phases();
  const sink = sinkFor(options);
  let parent: DirectorySource | undefined;
  try {
    parent = parentFor(options, sink);
    const pages: PageFigures = { scanned: 0, written: 0, lazy: 0, skipped: 0, sharedScanned: 0, sharedWritten: 0, sharedSkipped: 0 };
    phases.enter("copying");
    let done = 0;
    for (const pid of runningTree(options.tree)) if (copyProcess(pid, done + 1, { sink, parent, pages, options, log })) done++;
    if (done === 0) throw noProcess(options.tree);
    const session = { images: sink, parent, later: (work: () => void) => work() };
    copyShared(runningTree(options.tree), { session, figures: pages, nextPagesId: () => ++done });
    writeInventory(sink);
    phases.leave();
    sink.finish();
    if (options.autoDedup && parent !== undefined) dedupAgainst(options.imagesDir);
    saveWatched(runningTree(options.tree), options);
    writeDumpStats(options.workDir, { phases, pages });
  } catch (error) {
    sink.discard();
    throw error;
  } finally {
    parent?.close();
  }
}

interface CopyTools {
  readonly sink: DirectorySink;
  readonly parent: DirectorySource | undefined;
  readonly pages: PageFigures;
  readonly options: PreDumpOptions;
  readonly log: Logger;
}

/** False when the process has ended, or is dead. */
function copyProcess(pid: number, pagesId: number, { sink, parent, pages, options, log }: CopyTools): boolean {
  let runs: ReturnType<typeof findRuns>["runs"];
  try {
    runs = findRuns(pid, readSmaps(pid)).runs;
  } catch (error) {
    if (pid === options.tree) throw noProcess(pid, error);
    log.info(`process ${pid} is left out: it ended`);
    return false;
  }
  if (runs.length === 0) return false;
  const { progress } = options;
  // What the process itself cannot read is left to the dump.
  const whole = [...entries(runs.filter((run) => run.readable))];
  const layout = distinctPlaces(whole);
  const totalBytes = Number(layout.reduce((sum, { start, end }) => sum + (end - start), 0n));
  const fd = sink.rawFile(`pages-${pagesId}.img`);
  // Where something was not there any more the image has zeros.
  ftruncateSync(fd, totalBytes);
  copyRanges(
    pid,
    whole,
    { layout, fd, isShared: sharesPages(pid) },
    progress && ((doneBytes) => progress({ doing: "copying memory", doneBytes, totalBytes })),
  );
  const before = pagesOfParent(parent, { kind: "PAGEMAP", id: pid });
  describePages(sink, { pid, pagesId, runs: thin(fd, whole, before) }, pages);
  return true;
}

function noProcess(pid: number, cause?: unknown): UsageError {
  return new UsageError({
    code: "NO_SUCH_PROCESS",
    message: `Cannot copy the memory of process ${pid}: there is no living process with this pid`,
    remedy: ["Look the pid up again (ps -e)"],
    cause,
  });
}
