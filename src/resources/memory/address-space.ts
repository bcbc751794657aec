/**
 * Filling the address space of a task that is being made: mappings at their places, contents in them.
 *
 * A task is born either with the seed's memory, which is as good as empty, or with its parent's, already filled. In the
 * second case mappings that both have stay as they are, so that pages that are equal go on being shared copy-on-write.
 * Protection and advice come at the end (finish.ts), when no child is to inherit the memory any more.
 */
import { IOVEC_BYTES, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_LOCKED, PROT_READ, PROT_WRITE, UIO_MAXIOV } from "../../linux/memory.js";
import { readMaps } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import { giveBack, lend } from "../../target/lending.js";
import { Program, type ProgramArg, type Result } from "../../target/program.js";
import { type Job, runAll, writeTarget } from "../../target/run.js";
import type { TracedTask } from "../../target/thread.js";
import { fillShadowStacks, partShadowStacks } from "../tasks/shadow-stack.js";
import type { Fd } from "../part.js";
import { restoreContexts } from "./aio.js";
import { AREA, TASK_END, isDroppable, isOrdinary, isPrivate } from "./area.js";
import { type FillLanes, isWorthLanes } from "./fill-lanes.js";
import { FreshMemory, addUserfaultfd, freshRanges } from "./fresh-memory.js";
import { type PageComparison, type PageRange, clip, compareWithParent, holes, without } from "./inherit.js";
import type { MappedObjects } from "./objects.js";
import { type StoredRun, doneWith, placeOf } from "./page-source.js";
import { addPolicies } from "./policies.js";
import { attachSegments } from "./segments.js";
import type { SavedSpace } from "./saved-space.js";
import { type KernelPages, checkCompatVdso, mapOtherVdso, moveKernelPages } from "./vdso.js";
import type { VmaEntry } from "./vma.schema.js";

const MADV_DONTNEED = 4;
const MAX_TRANSFER = 0x7ff00000n;

/** What all tasks of a restore have in common. */
export interface SpaceBuild {
  readonly objects: MappedObjects;
  readonly kernel: KernelPages;
  /** Free addresses in every task, for moves. */
  readonly scratch: bigint;
  /** Counts for the statistics. */
  warn(message: string): void;
  /** For large memory. */
  readonly lanes: FillLanes;
  readonly comparison: PageComparison;
  readonly figures: { restored: number; compared: number; inherited: number };
}

/** Protection that mappings have until the end, by address space: those that were opened for filling. */
export type Opened = Set<VmaEntry>;

/** A task whose address space is to be filled. */
export interface ToFill {
  readonly task: TracedTask;
  readonly space: SavedSpace;
  /** The filled space it was cloned from, or undefined for the seed's. */
  readonly parent: SavedSpace | undefined;
  readonly parentOpened: Opened;
}

/** So many tasks are at work while the programs of the next ones are laid out. */
const GROUP = 16;

/** Puts the saved contents into tasks, none of which was cloned from another one of them. */
export function fillSpaces(all: readonly ToFill[], build: SpaceBuild): Opened[] {
  const opened: Opened[] = [];
  const prepare = (from: number) => all.slice(from, from + GROUP).map((one) => prepared(one, build));
  let next = prepare(0);
  for (let i = GROUP; next.length > 0; i += GROUP) {
    const group = next;
    next = [];
    runAll(
      group.map(({ job }) => job),
      () => {
        next = prepare(i);
      },
    );
    for (const { finish } of group) opened.push(finish());
  }
  return opened;
}

function prepared({ task, space, parent, parentOpened }: ToFill, build: SpaceBuild): { job: Job; finish(): Opened } {
  const fill = new Fill(task, space, build);
  const after = parent === undefined ? fill.overSeed() : fill.overParent(parent, parentOpened);
  const finish = () => {
    const opened = after();
    checkCompatVdso(space, task.pid);
    return opened;
  };
  return { job: { thread: task.leader, program: fill.program }, finish };
}

/** One address space being filled. */
class Fill {
  readonly #task: TracedTask;
  readonly #space: SavedSpace;
  readonly #build: SpaceBuild;
  readonly program = new Program();
  readonly #opened: Opened = new Set();
  #parent: SavedSpace | undefined;

  constructor(task: TracedTask, space: SavedSpace, build: SpaceBuild) {
    this.#task = task;
    this.#space = space;
    this.#build = build;
  }

  overSeed(): () => Opened {
    const maps = readMaps(this.#task.pid).filter((v) => v.name !== "[vsyscall]");
    const kernel = maps.filter((v) => v.name.startsWith("[vvar") || v.name === "[vdso]");
    const region = this.#task.region?.address ?? 0n;
    for (const vma of maps) {
      if (kernel.includes(vma) || vma.start === region) continue;
      // The seed's own page joins the region where their rights are equal; only that page goes.
      const end = vma.start < region && vma.end > region ? region : vma.end;
      this.#unmap(vma.start, end);
    }
    const first = kernel[0]?.start;
    if (this.#space.isCompat) mapOtherVdso(this.program, this.#space, kernel);
    else if (first !== undefined)
      moveKernelPages(this.program, this.#build.kernel, { from: first, space: this.#space, scratch: this.#build.scratch });
    return this.#prepare(this.#space.mm.vmas.filter(isOrdinary), this.#space.pages.runs);
  }

  overParent(parent: SavedSpace, parentOpened: Opened): () => Opened {
    this.#parent = parent;
    const there = parent.mm.vmas.filter(isOrdinary);
    const kept = keptMappings(this.#space.mm.vmas.filter(isOrdinary), there);
    for (const { start, end } of holes(there, kept)) this.#unmap(start, end);
    this.#moveKernelOf(parent);
    for (const mapping of kept) this.#adopt(mapping, parentOpened);
    const areas = kept.filter(({ vma }) => isPrivate(vma));
    const { needed, stale, figures } = compareWithParent({ parent: parent.pages, child: this.#space.pages, areas }, this.#build.comparison);
    this.#build.figures.compared += figures.compared;
    this.#build.figures.inherited += figures.equal;
    for (const range of stale) this.program.call(SYS.madvise, range.start, range.end - range.start, MADV_DONTNEED);
    const known = new Set(kept.map(({ vma }) => vma));
    const fresh = this.#space.mm.vmas.filter((v) => isOrdinary(v) && !known.has(v));
    return this.#prepare(fresh, needed);
  }

  #unmap(start: bigint, end: bigint): void {
    this.program.call(SYS.munmap, start, end - start).must("clearing the address space");
  }

  #moveKernelOf(parent: SavedSpace): void {
    const first = parent.vvar?.start ?? parent.vdso?.start;
    if (this.#space.isCompat || parent.isCompat) this.#replaceKernelOf(parent);
    else if (first !== undefined)
      moveKernelPages(this.program, this.#build.kernel, { from: first, space: this.#space, scratch: this.#build.scratch });
  }

  /** One of the two is a 32-bit process. */
  #replaceKernelOf(parent: SavedSpace): void {
    const isThere =
      this.#space.isCompat === parent.isCompat &&
      this.#space.vvar?.start === parent.vvar?.start &&
      this.#space.vdso?.start === parent.vdso?.start;
    if (isThere) return;
    const old = [parent.vvar, parent.vdso].filter((vma) => vma !== undefined);
    mapOtherVdso(this.program, this.#space, old);
  }

  /** Makes what was cloned the mapping of this task: the heap may have grown since the fork, the protection changed. */
  #adopt({ vma, end, from }: KeptMapping, parentOpened: Opened): void {
    const last = from.at(-1) as VmaEntry;
    if (vma.end > end) {
      const start = last.start > vma.start ? last.start : vma.start;
      this.program.call(SYS.mremap, start, end - start, vma.end - start, 0).must("lengthening a mapping");
    }
    const isPlain = from.every((old) => old.prot === vma.prot && !parentOpened.has(old));
    if (isPlain) return;
    const isOpen = from.every((old) => parentOpened.has(old));
    if (isPrivate(vma)) this.#opened.add(vma);
    const protection = isPrivate(vma) ? PROT_READ | PROT_WRITE : vma.prot;
    if (!isOpen) this.program.call(SYS.mprotect, vma.start, vma.end - vma.start, protection).must("changing the protection of a mapping");
  }

  /** Adds the calls that map `fresh` and read `runs` into memory; returns what is to be done when they have been made. */
  #prepare(fresh: readonly VmaEntry[], runs: readonly StoredRun[]): () => Opened {
    const { leader } = this.#task;
    const { shadow, others } = partShadowStacks(runs, this.#space.mm.vmas);
    const stored = withoutKernels(others, this.#space);
    const byLanes = isWorthLanes(stored);
    const local = this.#descriptors(fresh, byLanes ? [] : stored);
    const lent = lend(this.program, leader, local);
    const remote = new Map(local.map((fd, i) => [fd, lent[i] as ProgramArg]));
    const filled = new RunCursor(runs);
    const attached = fresh.filter((vma) => vma.status & AREA.SYSV);
    if (attached.length > 0)
      attachSegments(this.program, attached, [...readMaps(this.#task.pid), ...this.#space.mm.vmas], (id) =>
        this.#build.objects.segmentSize(id),
      );
    for (const vma of fresh) if ((vma.status & (AREA.SYSV | AREA.AIO)) === 0) this.#map(vma, remote, filled.meets(vma));
    const failedPolicies = addPolicies(this.program, this.#space.mm, this.#parent?.mm);
    this.#openForFilling(runs);
    const reads = byLanes ? [] : this.#read(stored, remote);
    const ranges = byLanes ? freshRanges(fresh, stored) : [];
    const uffd = ranges.length === 0 ? undefined : addUserfaultfd(this.program);
    giveBack(this.program, lent);
    return () => {
      leader.closeOnDeath([]);
      if (byLanes) {
        this.#byLanes(stored, uffd, ranges);
        this.#build.figures.restored += Number(stored.reduce((sum, { start, end }) => sum + (end - start), 0n) / 4096n);
      }
      for (const what of failedPolicies()) this.#build.warn(`process ${this.#space.pid}: this machine does not take ${what}`);
      for (const { result, bytes } of reads) {
        if (result.value !== bytes)
          throw new Error(`cannot fill the memory of process ${this.#space.pid}: ${result.value} of ${bytes} bytes were read`);
      }
      fillShadowStacks(this.#task.pid, shadow);
      for (const one of runs) doneWith(one);
      for (const { address, code } of this.#space.jumps) if (contains(runs, address)) writeTarget(leader, address, code);
      restoreContexts(this.#task, this.#space);
      return this.#opened;
    };
  }

  #byLanes(stored: readonly StoredRun[], uffd: Result | undefined, ranges: readonly PageRange[]): void {
    const { lanes } = this.#build;
    const memory = uffd === undefined ? undefined : FreshMemory.open(this.#task.pid, uffd, ranges);
    try {
      if (memory === undefined) lanes.fill(this.#task.pid, stored);
      else lanes.fill(this.#task.pid, without(stored, ranges), { fd: memory.fd, runs: clip(stored, ranges) });
    } finally {
      memory?.close();
    }
  }

  #descriptors(fresh: readonly VmaEntry[], runs: readonly StoredRun[]): Fd[] {
    const fds = new Set<Fd>();
    for (const run of runs) fds.add(placeOf(run).fd);
    for (const vma of fresh) {
      const fd = this.#build.objects.of(vma);
      if (fd !== undefined) fds.add(fd);
    }
    return [...fds];
  }

  #map(vma: VmaEntry, remote: ReadonlyMap<Fd, ProgramArg>, isFilled: boolean): void {
    if (vma.status & AREA.SHSTK) {
      this.program.call(SYS.map_shadow_stack, vma.start, vma.end - vma.start, 0).must("mapping a shadow stack");
      return;
    }
    const object = this.#build.objects.of(vma);
    const fd = object === undefined ? -1 : (remote.get(object) ?? -1);
    let flags = (vma.flags & ~MAP_LOCKED) | MAP_FIXED_NOREPLACE;
    if (object !== undefined) flags &= ~MAP_ANONYMOUS;
    else flags |= MAP_ANONYMOUS;
    let protection = vma.prot;
    if (isFilled && (vma.prot & PROT_WRITE) === 0) {
      protection |= PROT_READ | PROT_WRITE;
      this.#opened.add(vma);
    }
    const what = () => `mapping ${vma.start.toString(16)}-${vma.end.toString(16)}`;
    this.program.call(SYS.mmap, vma.start, vma.end - vma.start, protection, flags, fd, object === undefined ? 0n : vma.pgoff).must(what);
  }

  /** Mappings taken over from the parent may be closed to writing although this task has other contents there. */
  #openForFilling(runs: readonly StoredRun[]): void {
    const filled = new RunCursor(runs);
    for (const vma of this.#space.mm.vmas) {
      if (!isOrdinary(vma) || !isPrivate(vma) || !filled.meets(vma)) continue;
      if (vma.prot & PROT_WRITE || this.#opened.has(vma)) continue;
      this.#opened.add(vma);
      this.program.call(SYS.mprotect, vma.start, vma.end - vma.start, PROT_READ | PROT_WRITE).must("opening a mapping for filling");
    }
  }

  /** Vectored reads, as few as the limits allow: a vector's bytes lie one after another in the image. */
  #read(runs: readonly StoredRun[], remote: ReadonlyMap<Fd, ProgramArg>): { result: Result; bytes: bigint }[] {
    const reads: { result: Result; bytes: bigint }[] = [];
    for (const batch of readBatches(runs)) {
      const vector = this.program.bytes(Buffer.alloc(batch.length * IOVEC_BYTES));
      batch.forEach((r, i) => {
        vector.content.writeBigUInt64LE(r.start, i * IOVEC_BYTES);
        vector.content.writeBigUInt64LE(r.end - r.start, i * IOVEC_BYTES + 8);
      });
      const bytes = batch.reduce((sum, r) => sum + (r.end - r.start), 0n);
      this.#build.figures.restored += Number(bytes / 4096n);
      const fd = remote.get(batch[0]?.file.fd ?? -1) ?? -1;
      const result = this.program.call(SYS.preadv, fd, vector, batch.length, batch[0]?.offset ?? 0n, 0).must("reading memory contents");
      reads.push({ result, bytes });
    }
    return reads;
  }
}

/** The kernel gives the vdso, whose saved pages only serve to compare; rings of asynchronous I/O are filled by aio.ts. */
function withoutKernels(runs: readonly StoredRun[], { mm }: SavedSpace): StoredRun[] {
  const special = mm.vmas.filter((vma) => vma.status & (AREA.VDSO | AREA.VVAR | AREA.AIO));
  return without(runs, special);
}

/** A mapping of which [start, end) is there already, as a part of these mappings of the parent. */
interface KeptMapping extends PageRange {
  readonly vma: VmaEntry;
  readonly from: readonly VmaEntry[];
}

/**
 * What of `mine` can stay as it was cloned from `theirs` (both ascending): since the fork either may have split, cut or
 * joined mappings, so one may lie in many of the other's. Only a beginning is kept, because the rest is made by lengthening.
 */
function keptMappings(mine: readonly VmaEntry[], theirs: readonly VmaEntry[]): KeptMapping[] {
  const kept: KeptMapping[] = [];
  let at = 0;
  for (const vma of mine) {
    while ((theirs[at]?.end ?? TASK_END) <= vma.start) at++;
    const from: VmaEntry[] = [];
    let end = vma.start;
    for (let k = at; end < vma.end; k++) {
      const old = theirs[k];
      if (old === undefined || old.start > end || !isSameMapping(vma, old)) break;
      from.push(old);
      end = old.end < vma.end ? old.end : vma.end;
    }
    if (from.length > 0) kept.push({ vma, from, start: vma.start, end });
  }
  return kept;
}

/** Same object, same place, same kind: what was cloned can stay. */
function isSameMapping(a: VmaEntry, b: VmaEntry): boolean {
  const kind = AREA.FILE_PRIVATE | AREA.FILE_SHARED | AREA.ANON_PRIVATE | AREA.ANON_SHARED | AREA.MEMFD;
  if ((a.status & kind) !== (b.status & kind) || (a.flags & ~MAP_LOCKED) !== (b.flags & ~MAP_LOCKED)) return false;
  if ((a.status & AREA.ANON_PRIVATE) !== 0) return !isDroppable(a);
  return a.shmid === b.shmid && a.start - a.pgoff === b.start - b.pgoff && (a.fdflags ?? 0) === (b.fdflags ?? 0);
}

/** Runs and mappings are both in ascending order: one walk answers which mappings have contents. */
class RunCursor {
  readonly #runs: readonly StoredRun[];
  #at = 0;

  constructor(runs: readonly StoredRun[]) {
    this.#runs = runs;
  }

  meets(vma: VmaEntry): boolean {
    while ((this.#runs[this.#at]?.end ?? 1n << 64n) <= vma.start) this.#at++;
    const run = this.#runs[this.#at];
    return run !== undefined && run.start < vma.end;
  }
}

function contains(runs: readonly StoredRun[], address: bigint): boolean {
  return runs.some(({ start, end }) => start <= address && address < end);
}

/** Cuts runs into groups that follow one another in the image and that one preadv can take. */
function* readBatches(runs: readonly StoredRun[]): Generator<StoredRun[]> {
  let group: StoredRun[] = [];
  let bytes = 0n;
  for (const run of runs) {
    for (let at = run.start; at < run.end; ) {
      const offset = run.offset + (at - run.start);
      const last = group.at(-1);
      const follows = last === undefined || (last.file === run.file && last.offset + (last.end - last.start) === offset);
      if (group.length === UIO_MAXIOV || bytes === MAX_TRANSFER || !follows) {
        yield group;
        group = [];
        bytes = 0n;
      }
      const end = run.end - at > MAX_TRANSFER - bytes ? at + (MAX_TRANSFER - bytes) : run.end;
      group.push({ ...run, start: at, end, offset });
      bytes += end - at;
      at = end;
    }
  }
  if (group.length > 0) yield group;
}
