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
import { isProbed, withoutBreakpoints } from "./uprobes.js";

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
  const ordinary = vmas.filter((vma) => vma.start < TASK_END);
  const pieces = new AreaCursor(ordinary);
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  const runs: PageRun[] = [];
  try {
    const guard = guardCategory(pagemap);
    for (const { start, end, isFile } of stretches(ordinary)) {
      const none = isFile ? PAGE_IS_PFNZERO | PAGE_IS_FILE : PAGE_IS_PFNZERO;
      const scan = {
        ...{ start, end, inverted: none, mask: none },
        anyOf: PAGE_IS_PRESENT | PAGE_IS_SWAPPED | guard,
        returned: guard | (isTracked ? PAGE_IS_WRITTEN : 0n),
      };
      pagemapScanEach(pagemap, scan, (from, to, categories) => {
        if ((categories & guard) !== 0n) guards.push({ start: from, end: to });
        else pieces.split(runs, { start: from, end: to, unwritten: isTracked && (categories & PAGE_IS_WRITTEN) === 0n });
      });
    }
  } finally {
    closeSync(pagemap);
  }
  const own = isProbed(vmas) ? withoutBreakpoints(pid, runs, vmas) : runs;
  return { runs: withKernelPages(own, vmas), guards };
}

/** So many scans cost more than the looks at pages that they save. */
const MAX_STRETCHES = 64;

/**
 * The address space in stretches of anonymous mappings only, and of all others: whether a page is the file's takes a look
 * at the page itself, which makes a scan seven times as long (1.4 and 10 ms for each GiB), and only files have such pages.
 */
function stretches(vmas: readonly Vma[]): (PageRange & { isFile: boolean })[] {
  const found: { start: bigint; end: bigint; isFile: boolean }[] = [];
  for (const { start, end, inode } of vmas) {
    const isFile = inode !== 0n;
    const last = found.at(-1);
    if (last?.isFile === isFile) last.end = end;
    else found.push({ start, end, isFile });
  }
  return found.length <= MAX_STRETCHES ? found : [{ start: 0n, end: TASK_END, isFile: true }];
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
        // A mapping that was moved is tracked no longer, but (6.18) may keep the marks of its pages.
        const isKnown = unwritten && vma.flags.has("uw");
        add(runs, vma, { start: start > vma.start ? start : vma.start, end: end < vma.end ? end : vma.end, unwritten: isKnown });
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
  else runs.push({ start: range.start, end: range.end, lazy, readable: vma.read, unwritten: range.unwritten });
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
