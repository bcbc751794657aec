/**
 * Which pages of a process are worth keeping: those that differ from what a fresh mapping would show.
 *
 * Found by    PAGEMAP_SCAN on /proc/PID/pagemap
 */
import { closeSync, openSync } from "node:fs";
import {
  PAGE_IS_FILE,
  PAGE_IS_PFNZERO,
  PAGE_IS_PRESENT,
  PAGE_IS_SWAPPED,
  PAGE_IS_WRITTEN,
  guardCategory,
  pagemapScanEach,
} from "../../linux/pagemap.js";
import type { Vma } from "../../linux/proc/maps.js";
import { TASK_END, areaKind } from "./area.js";

/** Neighbouring pages to be saved. */
export interface PageRun {
  start: bigint;
  end: bigint;
  /** May be filled in after the process has been restored. */
  readonly lazy: boolean;
  /** The process itself can read them. */
  readonly readable: boolean;
  /** Not written since tracking began; only where writes are tracked. */
  readonly unwritten: boolean;
}

/** Pages [start, end). */
export interface PageRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** The private pages of process `pid`, ascending, and its guard regions. `isTracked`: tell written pages from others. */
export function findRuns(pid: number, vmas: readonly Vma[], isTracked = false): { runs: PageRun[]; guards: PageRange[] } {
  const guards: PageRange[] = [];
  const pieces = new AreaCursor(vmas.filter((vma) => vma.start < TASK_END));
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  const runs: PageRun[] = [];
  const written = isTracked ? PAGE_IS_WRITTEN : 0n;
  try {
    const guard = guardCategory(pagemap);
    const scan = {
      start: 0n,
      end: TASK_END,
      inverted: PAGE_IS_PFNZERO | PAGE_IS_FILE,
      mask: PAGE_IS_PFNZERO | PAGE_IS_FILE,
      anyOf: PAGE_IS_PRESENT | PAGE_IS_SWAPPED | guard,
      returned: guard | written,
    };
    pagemapScanEach(pagemap, scan, (start, end, categories) => {
      if ((categories & guard) !== 0n) guards.push({ start, end });
      else pieces.split(runs, { start, end, unwritten: isTracked && (categories & PAGE_IS_WRITTEN) === 0n });
    });
  } finally {
    closeSync(pagemap);
  }
  return { runs: withKernelPages(runs, vmas), guards };
}

/** Walks the mappings in step with the regions found, which are in ascending order too. */
class AreaCursor {
  readonly #vmas: readonly Vma[];
  #at = 0;

  constructor(vmas: readonly Vma[]) {
    this.#vmas = vmas;
  }

  /** Adds the parts of a region that lie in mappings whose pages are kept. */
  split(runs: PageRun[], { start, end, unwritten }: PageRange & { unwritten: boolean }): void {
    for (;;) {
      const vma = this.#vmas[this.#at];
      if (vma === undefined || vma.start >= end) return;
      if (vma.end <= start) {
        this.#at++;
        continue;
      }
      if (hasOwnPages(vma)) {
        const part = { start: start > vma.start ? start : vma.start, end: end < vma.end ? end : vma.end };
        add(runs, vma, { ...part, unwritten });
      }
      if (vma.end >= end) return;
      this.#at++;
    }
  }
}

/** Whether pages of a mapping are the process's own. */
export function hasOwnPages(vma: Vma): boolean {
  if (vma.shared) return false;
  const kind = areaKind(vma);
  return kind === "anonymous" || kind === "file" || kind === "memfd";
}

function add(runs: PageRun[], vma: Vma, range: PageRange & { unwritten: boolean }): void {
  // Lazily restorable is what nobody but the process itself looks at: private, anonymous, not locked.
  const lazy = vma.inode === 0n && !vma.flags.has("lo");
  const last = runs[runs.length - 1];
  const joins = last !== undefined && last.end === range.start && last.unwritten === range.unwritten;
  if (joins && last.lazy === lazy && last.readable === vma.read) last.end = range.end;
  else runs.push({ ...range, lazy, readable: vma.read });
}

/** The vdso is kept as well, so that another kernel's can be recognised, and rings of asynchronous I/O. */
function withKernelPages(runs: PageRun[], vmas: readonly Vma[]): PageRun[] {
  for (const vma of vmas) {
    const kind = areaKind(vma);
    if (kind !== "vdso" && kind !== "aio") continue;
    const at = runs.findIndex((run) => run.start >= vma.end);
    const run = { start: vma.start, end: vma.end, lazy: false, readable: true, unwritten: false };
    runs.splice(at < 0 ? runs.length : at, 0, run);
  }
  return runs;
}
