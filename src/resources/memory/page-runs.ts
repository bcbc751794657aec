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
  pagemapScanRanges,
  unprotectedStretches,
} from "../../linux/pagemap.js";
import type { Vma } from "../../linux/proc/maps.js";
import type { UnprotectedAhead } from "../../linux/unprotected.js";
import { TASK_END, areaKind } from "./area.js";
import { withoutMarks } from "./watched-pages.js";
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

/**
 * The private pages of process `pid`, ascending, and its guard regions. `layout`: which pages were there when tracking of writes began;
 * then written pages are told from others. `ahead`: a look at where they are that has been begun.
 */
export function findRuns(
  pid: number,
  vmas: readonly Vma[],
  layout?: readonly PageRange[],
  ahead?: UnprotectedAhead,
): { runs: PageRun[]; guards: PageRange[] } {
  const ordinary = vmas.filter((vma) => vma.start < TASK_END);
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  const found: Found = { pieces: new AreaCursor(ordinary), runs: [], guards: [] };
  const runs = found.runs;
  try {
    const guard = guardCategory(pagemap);
    for (const stretch of stretches(ordinary, layout === undefined ? NONE : mostlyUnwritten(ordinary, layout))) {
      if (stretch.isForeign === true) findGuards(found, { pagemap, guard, ...stretch });
      else if (stretch.isTracked === true) findChanged(found, { pagemap, guard, ...stretch }, ahead?.of(pid, stretch));
      else findPresent(found, { pagemap, guard, isTracked: layout !== undefined, ...stretch });
    }
  } finally {
    closeSync(pagemap);
  }
  const own = isProbed(vmas) ? withoutBreakpoints(pid, runs, vmas) : runs;
  return { runs: withKernelPages(layout === undefined ? withoutMarks(pid, own, vmas) : own, vmas), guards: found.guards };
}

interface Found {
  readonly pieces: AreaCursor;
  readonly runs: PageRun[];
  readonly guards: PageRange[];
}

interface Scanned extends PageRange {
  readonly pagemap: number;
  /** PAGE_IS_GUARD, where the kernel has it. */
  readonly guard: bigint;
}

/** Of memory that is shared only the guard regions are this process's own. */
function findGuards({ guards }: Found, { pagemap, guard, start, end }: Scanned): void {
  if (guard === 0n) return;
  pagemapScanEach(pagemap, { start, end, mask: guard, returned: 0n }, (from, to) => guards.push({ start: from, end: to }));
}

/** Finds the pages that are there. */
function findPresent({ pieces, runs, guards }: Found, of: Scanned & { isFile: boolean; isTracked: boolean }): void {
  const { pagemap, guard, start, end, isFile, isTracked } = of;
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

/**
 * The same for memory in which nearly all pages are there and were not written: those are looked for that are not there, and
 * those that were written, by one look at each stretch where there is any such page.
 */
function findChanged({ pieces, runs, guards }: Found, { pagemap, guard, start, end }: Scanned, known?: readonly PageRange[]): void {
  let at = start;
  const unwrittenUntil = (to: bigint) => {
    if (at < to) pieces.split(runs, { start: at, end: to, unwritten: true });
  };
  const stretches = known ?? unprotectedStretches(pagemap, { start, end });
  const returned = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_WRITTEN | PAGE_IS_PFNZERO | guard;
  pagemapScanRanges(pagemap, { returned }, stretches, (from, to, categories) => {
    const isWritten = (categories & PAGE_IS_WRITTEN) !== 0n;
    const isGuard = (categories & guard) !== 0n;
    const isThere = (categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED)) !== 0n;
    if (isThere && !isWritten && !isGuard) return;
    unwrittenUntil(from);
    at = to;
    if (isGuard) guards.push({ start: from, end: to });
    // A page of zeros that nobody has written to since is as good as none; it has not been protected.
    else if (isThere && (categories & PAGE_IS_PFNZERO) === 0n) pieces.split(runs, { start: from, end: to, unwritten: false });
  });
  unwrittenUntil(end);
}

const NONE: ReadonlySet<Vma> = new Set();

/** Smaller mappings are not worth two scans of their own. */
const WORTH_OWN_SCANS = 256n << 10n;

/** Mappings that are tracked, and were full for the most part when that began. */
function mostlyUnwritten(vmas: readonly Vma[], layout: readonly PageRange[]): Set<Vma> {
  const chosen = new Set<Vma>();
  let at = 0;
  for (const vma of vmas) {
    const size = vma.end - vma.start;
    if (vma.inode !== 0n || size < WORTH_OWN_SCANS || !vma.flags.has("uw")) continue;
    while ((layout[at]?.end ?? TASK_END) <= vma.start) at++;
    let there = 0n;
    for (let k = at; (layout[k]?.start ?? TASK_END) < vma.end; k++) {
      const { start, end } = layout[k] as PageRange;
      there += (end < vma.end ? end : vma.end) - (start > vma.start ? start : vma.start);
    }
    if (there * 2n > size) chosen.add(vma);
  }
  return chosen;
}

/** So many scans cost more than the looks at pages that they save, and in so little memory any do. */
const MAX_STRETCHES = 64;
const LITTLE_BYTES = 32n << 20n;

/**
 * The address space in stretches of anonymous mappings only, and of all others: whether a page is the file's takes a look
 * at the page itself, which makes a scan seven times as long (1.4 and 10 ms for each GiB), and only files have such pages.
 */
function stretches(vmas: readonly Vma[], apart: ReadonlySet<Vma>, isMixed = false): Stretch[] {
  const found: Stretch[] = [];
  let others = 0;
  let bytes = 0n;
  for (const vma of vmas) {
    const { start, end } = vma;
    bytes += end - start;
    const isFile = isMixed || vma.inode !== 0n;
    const last = found.at(-1);
    if (apart.has(vma)) found.push({ start, end, isFile, isTracked: true });
    else if (vma.shared && end - start >= (isMixed ? LITTLE_BYTES : WORTH_OWN_SCANS)) {
      found.push({ start, end, isFile, isForeign: true });
      others++;
    } else if (last?.isFile === isFile && last.isTracked !== true && last.isForeign !== true) last.end = end;
    else {
      found.push({ start, end, isFile });
      others++;
    }
  }
  return isMixed || (others <= MAX_STRETCHES + apart.size && bytes > LITTLE_BYTES) ? found : stretches(vmas, apart, true);
}

interface Stretch {
  readonly start: bigint;
  end: bigint;
  readonly isFile: boolean;
  readonly isTracked?: boolean;
  /** Its pages are those of an object that is saved by itself. */
  readonly isForeign?: boolean;
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

/** Whether the kernel lets pages of private memory come later: not into what is locked, huge pages, or a stack that grows. */
export function mayComeLater({ flags }: Vma): boolean {
  return !flags.has("lo") && !flags.has("gd") && !flags.has("ht");
}

/** Whether pages of a mapping are the process's own. */
export function hasOwnPages(vma: Vma): boolean {
  if (vma.shared) return false;
  const kind = areaKind(vma);
  return kind === "anonymous" || kind === "file" || kind === "memfd";
}

function add(runs: PageRun[], vma: Vma, range: PageRange & { unwritten: boolean }): void {
  // Lazily restorable is what nobody but the process itself looks at: private, anonymous, not locked.
  const lazy = vma.inode === 0n && mayComeLater(vma);
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
