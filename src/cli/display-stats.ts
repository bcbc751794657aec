/**
 * --display-stats: the statistics files as text, in the words that scripts know from CRIU.
 */
import { DirectorySource } from "../images/source.js";
import { type DumpStatsEntry, type RestoreStatsEntry, statsEntry } from "../images/stats.schema.js";

const time = (name: string, us: number | undefined) => `${name}: ${us ?? 0} us`;
const count = (name: string, n: bigint | undefined) => `${name}: ${n ?? 0n} (0x${(n ?? 0n).toString(16)})`;

/** Text of the statistics that the last dump or restore left in `workDir`. */
export function statsText(workDir: string, kind: "STATS_DUMP" | "STATS_RESTORE"): string {
  const { dump, restore } = new DirectorySource(workDir).single(kind, [], statsEntry);
  const lines = [...(dump === undefined ? [] : dumpLines(dump)), ...(restore === undefined ? [] : restoreLines(restore))];
  return lines.map((line) => `${line}\n`).join("");
}

function dumpLines(stats: DumpStatsEntry): string[] {
  return [
    "Displaying dump stats:",
    time("Freezing time", stats.freezing_time),
    time("Frozen time", stats.frozen_time),
    time("Memory dump time", stats.memdump_time),
    time("Memory write time", stats.memwrite_time),
    time("IRMAP resolve time", stats.irmap_resolve),
    count("Memory pages scanned", stats.pages_scanned),
    count("Memory pages skipped from parent", stats.pages_skipped_parent),
    count("Memory pages written", stats.pages_written),
    count("Lazy memory pages", stats.pages_lazy),
  ];
}

function restoreLines(stats: RestoreStatsEntry): string[] {
  return [
    "Displaying restore stats:",
    count("Pages compared", stats.pages_compared),
    count("Pages skipped COW", stats.pages_skipped_cow),
    count("Pages restored", stats.pages_restored),
    time("Restore time", stats.restore_time),
    time("Forking time", stats.forking_time),
  ];
}
