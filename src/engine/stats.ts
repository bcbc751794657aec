/**
 * Statistics of a dump or restore: the stats-dump and stats-restore files, and the text of --display-stats.
 */
import { DirectorySink } from "../images/sink.js";
import { statsEntry } from "../images/stats.schema.js";
import type { Phases } from "./phases.js";

/** Counts of pages, for the whole tree. */
export interface PageFigures {
  readonly scanned: number;
  readonly written: number;
  readonly lazy: number;
  readonly skipped: number;
  readonly sharedSkipped: number;
  readonly sharedScanned: number;
  readonly sharedWritten: number;
}

export interface DumpFigures {
  readonly phases: Phases;
  readonly pages: PageFigures;
}

export interface RestoreFigures {
  readonly phases: Phases;
  readonly pagesCompared: number;
  readonly pagesSkippedCow: number;
  readonly pagesRestored: number;
}

/** Writes stats-dump into the work directory. */
export function writeDumpStats(workDir: string, { phases, pages }: DumpFigures): void {
  const sink = new DirectorySink(workDir);
  sink.append("STATS_DUMP", [], {
    type: statsEntry,
    value: {
      dump: {
        freezing_time: phases.us("freezing"),
        frozen_time: phases.us("freezing", "collecting", "files", "memory", "writing", "releasing"),
        memdump_time: phases.us("memory"),
        memwrite_time: 0,
        pages_scanned: BigInt(pages.scanned),
        pages_skipped_parent: BigInt(pages.skipped),
        pages_written: BigInt(pages.written),
        pages_lazy: BigInt(pages.lazy),
        shpages_scanned: BigInt(pages.sharedScanned),
        shpages_skipped_parent: BigInt(pages.sharedSkipped),
        shpages_written: BigInt(pages.sharedWritten),
      },
    },
  });
  sink.finish();
}

/** Writes stats-restore into the work directory. */
export function writeRestoreStats(workDir: string, figures: RestoreFigures): void {
  const sink = new DirectorySink(workDir);
  sink.append("STATS_RESTORE", [], {
    type: statsEntry,
    value: {
      restore: {
        pages_compared: BigInt(figures.pagesCompared),
        pages_skipped_cow: BigInt(figures.pagesSkippedCow),
        forking_time: figures.phases.us("forking"),
        restore_time: figures.phases.us("forking", "restoring"),
        pages_restored: BigInt(figures.pagesRestored),
      },
    },
  });
  sink.finish();
}

/** Lines for --display-stats. */
export function dumpStatsText({ phases, pages }: DumpFigures): string {
  const lines = phases.all().map(([name, us]) => `  ${name.padEnd(12)} ${us} us`);
  return ["Dump statistics:", ...lines, `  pages scanned ${pages.scanned}, written ${pages.written}, lazy ${pages.lazy}`, ""].join("\n");
}

/** Lines for --display-stats. */
export function restoreStatsText(figures: RestoreFigures): string {
  const lines = figures.phases.all().map(([name, us]) => `  ${name.padEnd(12)} ${us} us`);
  return [
    "Restore statistics:",
    ...lines,
    `  pages restored ${figures.pagesRestored}, shared copy-on-write ${figures.pagesSkippedCow}`,
    "",
  ].join("\n");
}
