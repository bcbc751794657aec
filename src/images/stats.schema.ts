/**
 * Image messages: dump_stats_entry, restore_stats_entry, stats_entry.
 */
import { type Infer, message, optional, required } from "./codec/schema.js";

export const dumpStatsEntry = message("dump_stats_entry", () => ({
  freezing_time: required.uint32(1),
  frozen_time: required.uint32(2),
  memdump_time: required.uint32(3),
  memwrite_time: required.uint32(4),
  pages_scanned: required.uint64(5),
  pages_skipped_parent: required.uint64(6),
  pages_written: required.uint64(7),
  irmap_resolve: optional.uint32(8),
  pages_lazy: required.uint64(9),
  page_pipes: optional.uint64(10),
  page_pipe_bufs: optional.uint64(11),
  shpages_scanned: optional.uint64(12),
  shpages_skipped_parent: optional.uint64(13),
  shpages_written: optional.uint64(14),
}));
export type DumpStatsEntry = Infer<typeof dumpStatsEntry>;

export const restoreStatsEntry = message("restore_stats_entry", () => ({
  pages_compared: required.uint64(1),
  pages_skipped_cow: required.uint64(2),
  forking_time: required.uint32(3),
  restore_time: required.uint32(4),
  pages_restored: optional.uint64(5),
}));
export type RestoreStatsEntry = Infer<typeof restoreStatsEntry>;

export const statsEntry = message("stats_entry", () => ({
  dump: optional.message(1, () => dumpStatsEntry),
  restore: optional.message(2, () => restoreStatsEntry),
}));
export type StatsEntry = Infer<typeof statsEntry>;
