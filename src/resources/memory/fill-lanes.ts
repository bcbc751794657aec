/**
 * Filling large memory from outside, by several lanes at once.
 *
 * Made with   pread(2) into a buffer that stays in the processor's cache (decompressed there, if need be), and
 *             process_vm_writev(2) from there, or UFFDIO_COPY where no pages are yet (fresh-memory.ts)
 *
 * Measured, 1 GiB into fresh memory, two processors: 0.25 s; by one preadv(2) of the process itself 0.5 s. Small memory is read by
 * the process itself, with everything else that it does.
 */
import { isTooLargeForCache } from "../../images/page-cache.js";
import type { PageFile } from "../../images/page-file.js";
import { PAGE_AREA, pageLanes, vectorFrom } from "../../images/store/read.js";
import { writeAndForget } from "../../linux/files.js";
import { UFFDIO_COPY, UFFDIO_COPY_SOURCE, encodeUffdioCopy } from "../../linux/userfaultfd.js";
import { LaneWork, type Lanes, type RunningLanes, nativeFunction, writeIovec } from "../../linux/lanes.js";
import { IOVEC_BYTES, UIO_MAXIOV } from "../../linux/memory.js";
import type { PagePair } from "./inherit.js";
import { type StoredRun, placeOf } from "./page-source.js";

const PAGE = 4096n;
const CHUNK = BigInt(256 << 10);
const POSIX_FADV_DONTNEED = 4;
/** The page cache drops what lies in a range wholly; it keeps files in pieces of up to so much. */
const CACHE_PIECE = 2n << 20n;

/** Chunks that the lanes are given at once. */
const PORTION_CHUNKS = 128;

/** Pairs that are compared at once. */
const PORTION_PAIRS = 512;

/** From this much on lanes are worth their start. */
const WORTH_BYTES = 8n << 20n;

export function isWorthLanes(runs: readonly StoredRun[]): boolean {
  let bytes = 0n;
  for (const { start, end } of runs) bytes += end - start;
  return bytes >= WORTH_BYTES;
}

/** Runs of missing pages of memory for which there is a userfaultfd. */
export interface MissingRuns {
  readonly fd: number;
  readonly runs: readonly StoredRun[];
}

/** A part of a run; `uffd`: the userfaultfd of memory that has no pages there. */
interface Piece extends StoredRun {
  readonly uffd?: number;
}

/** Pieces of one chunk of a file, in the order of the file. */
interface ChunkPieces {
  readonly file: PageFile;
  /** Offset of the chunk. */
  readonly offset: bigint;
  readonly pieces: Piece[];
}

/** Some chunks, and the lanes' work on them. */
interface Portion {
  start(): void;
  join(): void;
  /** Joins, and sees that all of it was done. */
  finish(): void;
}

/** Lanes that fill memory; made when they are first needed. */
export class FillLanes {
  #made: Lanes | undefined;
  readonly #totalBytes: number;
  #forgets: boolean | undefined;
  readonly #prepared = new Set<PageFile>();

  /** `totalBytes`: pages of the whole tree; very many are taken out of the page cache as they are used. */
  constructor(totalBytes: number) {
    this.#totalBytes = totalBytes;
  }

  get #lanes(): Lanes {
    this.#made ??= pageLanes();
    return this.#made;
  }

  /** Reads runs into the memory of a process, whose mappings are there and may be written, and others into memory without pages. */
  fill(pid: number, present: readonly StoredRun[], missing?: MissingRuns): void {
    const runs: readonly Piece[] =
      missing === undefined ? present : [...present, ...missing.runs.map((run) => ({ ...run, uffd: missing.fd }))];
    this.#forgets ??= isTooLargeForCache(this.#totalBytes);
    const files = new Set(runs.map((run) => run.file));
    for (const file of files) this.#prepareFor(file);
    const chunks = byChunk(runs);
    let running: Portion | undefined;
    try {
      for (let i = 0; i < chunks.length; i += PORTION_CHUNKS) {
        // Laid out while the lanes are at work on the portion before.
        const next = this.#portion(pid, chunks.slice(i, i + PORTION_CHUNKS));
        const before = running;
        running = undefined;
        before?.finish();
        next.start();
        running = next;
      }
      const last = running;
      running = undefined;
      last?.finish();
    } finally {
      running?.join();
    }
    if (this.#forgets) for (const file of files) if (file.isPlain) forget(file);
  }

  /** Which of these pairs, each of at most a chunk, are not equal. */
  differ(pairs: readonly PagePair[]): boolean[] {
    const differs: boolean[] = [];
    for (let i = 0; i < pairs.length; i += PORTION_PAIRS) {
      const work = new LaneWork();
      const answers = pairs.slice(i, i + PORTION_PAIRS).map((pair) => addComparison(work, pair));
      this.#lanes.run(work);
      for (const answer of answers) differs.push(answer());
    }
    return differs;
  }

  /** While no lane is at work: each gets what it needs for the file. */
  #prepareFor(file: PageFile): void {
    if (file.chunks === undefined || this.#prepared.has(file)) return;
    file.chunks.prepare(this.#lanes);
    this.#prepared.add(file);
  }

  #portion(pid: number, chunks: readonly ChunkPieces[]): Portion {
    const work = new LaneWork();
    const checks: (() => void)[] = [];
    for (const chunk of chunks) {
      work.group();
      checks.push(this.#addRead(work, chunk), ...addWrites(work, pid, chunk));
      if (this.#forgets === true && chunk.file.isPlain) addForgetting(work, chunk);
    }
    let lanes: RunningLanes | undefined;
    const join = () => lanes?.join();
    return {
      start: () => {
        lanes = this.#lanes.start(work);
      },
      join,
      finish: () => {
        join();
        for (const check of checks) check();
      },
    };
  }

  /** Adds calls that put the chunk, as far as it is needed, into the lane's buffer, at its place in the chunk. */
  #addRead(work: LaneWork, { file, offset, pieces }: ChunkPieces): () => void {
    if (file.chunks !== undefined) {
      return file.chunks.addRead(work, Number(offset / CHUNK), { inArea: PAGE_AREA.plain });
    }
    const first = pieces[0] as StoredRun;
    const end = pieces.reduce((most, piece) => (endOf(piece) > most ? endOf(piece) : most), 0n);
    const bytes = end - first.offset;
    const { fd } = placeOf({ ...first, end: first.start + bytes });
    const read = work.call(nativeFunction("pread"), fd, { inArea: PAGE_AREA.plain + Number(first.offset - offset) }, bytes, first.offset);
    return () => {
      if (work.result(read) !== bytes) throw failed(`reading ${file.name}`, { got: work.result(read), bytes });
    };
  }

  close(): void {
    this.#made?.close();
    this.#made = undefined;
  }
}

/** Adds calls that read both pieces of a pair, and compare them; returns whether they differ. */
function addComparison(work: LaneWork, { parent, child }: PagePair): () => boolean {
  work.group();
  const bytes = child.end - child.start;
  const [first, second] = [placeOf(parent), placeOf(child)];
  const pread = nativeFunction("pread");
  const a = work.call(pread, first.fd, { inArea: PAGE_AREA.plain }, bytes, first.offset);
  const b = work.call(pread, second.fd, { inArea: PAGE_AREA.stored }, bytes, second.offset);
  const compared = work.call(nativeFunction("memcmp"), { inArea: PAGE_AREA.plain }, { inArea: PAGE_AREA.stored }, bytes);
  return () => {
    for (const [read, { file }] of [
      [a, parent],
      [b, child],
    ] as const)
      if (work.result(read) !== bytes) throw failed(`reading ${file.name}`, { got: work.result(read), bytes });
    return work.resultInt(compared) !== 0;
  };
}

/** Adds a call that takes a chunk out of the page cache, and what was left of those before: the cache has larger pieces than chunks. */
function addForgetting(work: LaneWork, { file, offset }: ChunkPieces): void {
  const from = offset > CACHE_PIECE ? offset - CACHE_PIECE : 0n;
  work.call(nativeFunction("posix_fadvise"), file.fd, from, offset + CHUNK - from, POSIX_FADV_DONTNEED);
}

function forget({ fd, sizeBytes }: PageFile): void {
  writeAndForget(fd, { offset: 0n, sizeBytes });
}

/** Adds the calls that write pieces into memory: one for all that follow one another in the chunk. */
function* addWrites(work: LaneWork, pid: number, { offset, pieces }: ChunkPieces): Generator<() => void> {
  const writev = nativeFunction("process_vm_writev");
  for (let i = 0; i < pieces.length; ) {
    const first = pieces[i] as Piece;
    i++;
    if (first.uffd !== undefined) {
      yield addCopy(work, first, { uffd: first.uffd, page: Number((first.offset - offset) / PAGE) });
      continue;
    }
    const remote: Piece[] = [first];
    for (; i < pieces.length && remote.length < UIO_MAXIOV; i++) {
      const next = pieces[i] as Piece;
      if (next.uffd !== undefined || next.offset !== endOf(remote.at(-1) as StoredRun)) break;
      remote.push(next);
    }
    const vector = Buffer.allocUnsafe(remote.length * IOVEC_BYTES);
    remote.forEach((run, k) => {
      writeIovec(vector, k * IOVEC_BYTES, { address: run.start, sizeBytes: run.end - run.start });
    });
    const bytes = endOf(remote.at(-1) as StoredRun) - first.offset;
    const wrote = work.call(writev, pid, vectorFrom(Number((first.offset - offset) / PAGE)), 1, vector, remote.length, 0);
    yield () => {
      if (work.result(wrote) !== bytes)
        throw failed(`writing into process ${pid} from 0x${first.start.toString(16)} on`, { got: work.result(wrote), bytes });
    };
  }
}

/**
 * Adds the calls that put a piece, which is in the lane's buffer from a page on, where no pages are yet: struct uffdio_copy, whose source the
 * lane itself fills in, from the vector of that page.
 */
function addCopy(work: LaneWork, { start, end }: Piece, { uffd, page }: { uffd: number; page: number }): () => void {
  const memcpy = nativeFunction("memcpy");
  const request = encodeUffdioCopy({ address: start, sizeBytes: end - start });
  work.call(memcpy, { inArea: PAGE_AREA.request }, request, request.length);
  work.call(memcpy, { inArea: PAGE_AREA.request + UFFDIO_COPY_SOURCE }, vectorFrom(page), 8);
  const copied = work.call(nativeFunction("ioctl"), uffd, UFFDIO_COPY, { inArea: PAGE_AREA.request });
  return () => {
    if (work.resultInt(copied) !== 0) throw new Error(`cannot fill memory: UFFDIO_COPY failed from 0x${start.toString(16)} on`);
  };
}

function failed(doing: string, { got, bytes }: { got: bigint; bytes: bigint }): Error {
  return new Error(`cannot fill memory: ${doing} did ${got} of ${bytes} bytes`);
}

function endOf({ start, end, offset }: StoredRun): bigint {
  return offset + (end - start);
}

/** Cuts runs at the chunks of their files, and puts those of one chunk together. */
function byChunk(runs: readonly Piece[]): ChunkPieces[] {
  const files = new Map<PageFile, Map<bigint, ChunkPieces>>();
  for (const run of runs) {
    const { start, end, file, offset } = run;
    let chunks = files.get(file);
    if (chunks === undefined) {
      chunks = new Map();
      files.set(file, chunks);
    }
    for (let at = start; at < end; ) {
      const here = offset + (at - start);
      const begin = here - (here % CHUNK);
      const to = end - at > begin + CHUNK - here ? at + (begin + CHUNK - here) : end;
      const piece = { ...run, start: at, end: to, offset: here };
      const chunk = chunks.get(begin);
      if (chunk === undefined) chunks.set(begin, { file, offset: begin, pieces: [piece] });
      else chunk.pieces.push(piece);
      at = to;
    }
  }
  const all = [...files.values()].flatMap((chunks) => [...chunks.values()]);
  for (const { pieces } of all) pieces.sort((a, b) => (a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0));
  return all;
}
