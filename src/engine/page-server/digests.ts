/**
 * Increments over a connection: whoever sends pages to a server keeps digests of them, and leaves out what is the same the next time.
 *
 * What has to be the same is what the server has. So it is asked before anything is left out: by one number that stands for all
 * pages of a process that it got before. A server that does not know the question (CRIU's) gets everything.
 */
import type { Hash, createHash } from "node:crypto";
import { readSync } from "node:fs";
import { DirectorySource } from "../../images/source.js";
import { type FloePageDigests, floePageDigests } from "../../images/page-digests.schema.js";
import type { Fd } from "../../resources/part.js";
import type { PageRange } from "../../resources/memory/page-runs.js";
import { type StoredRun, doneWith, partOf, placeOf } from "../../resources/memory/page-source.js";

const PAGE_BYTES = 4096;
const PAGE = BigInt(PAGE_BYTES);
const DIGEST_BYTES = 16;
/** So many pages are read at once, and are one record of an image. */
const CHUNK_PAGES = 1024;
/** The number that a server is asked about has to fit where a message has the address of a page. */
const SUMMARY_BITS = 48n;

/** Pages, and {@link DIGEST_BYTES} for each. */
export interface DigestedRun extends PageRange {
  readonly digests: Buffer;
}

let create: typeof createHash | undefined;

/** Whether there can be digests: not with Node before 20.16. */
export function canDigest(): boolean {
  // Taken when it is needed: to load it takes longer than most of what a small dump does, and every dump loads this module.
  create ??= process.getBuiltinModule?.("node:crypto").createHash;
  return create !== undefined;
}

function sha256(): Hash {
  if (!canDigest() || create === undefined) throw new Error("internal error: there are no digests here");
  return create("sha256");
}

let chunk: Buffer | undefined;

/** Digests of pages whose bytes begin at `offset` of a file, in pieces of at most {@link CHUNK_PAGES}. */
export function* digestsOf(fd: Fd, { start, end, offset }: PageRange & { readonly offset: bigint }): Generator<DigestedRun> {
  chunk ??= Buffer.allocUnsafeSlow(CHUNK_PAGES * PAGE_BYTES);
  for (let at = start; at < end; ) {
    const left = end - at;
    const bytes = left < BigInt(chunk.length) ? Number(left) : chunk.length;
    for (let got = 0; got < bytes; ) {
      const read = readSync(fd, chunk, got, bytes - got, offset + (at - start) + BigInt(got));
      if (read === 0) throw new Error("internal error: a file of pages is shorter than it was made");
      got += read;
    }
    const digests = Buffer.alloc((bytes / PAGE_BYTES) * DIGEST_BYTES);
    for (let i = 0; i * PAGE_BYTES < bytes; i++) {
      const page = chunk.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
      sha256()
        .update(page)
        .digest()
        .copy(digests, i * DIGEST_BYTES, 0, DIGEST_BYTES);
    }
    yield { start: at, end: at + BigInt(bytes), digests };
    at += BigInt(bytes);
  }
}

/** The same of pages in images, wherever in a chain they lie. */
export function* digestsOfStored(runs: readonly StoredRun[]): Generator<DigestedRun> {
  const step = BigInt(CHUNK_PAGES) * PAGE;
  for (const run of runs) {
    for (let at = run.start; at < run.end; at += step) {
      const part = partOf(run, at, at + step < run.end ? at + step : run.end);
      const { fd, offset } = placeOf(part);
      yield* digestsOf(fd, { start: part.start, end: part.end, offset });
      doneWith(part);
    }
  }
}

/** One number for all pages, their places and their contents; a multiple of the size of a page. */
export function summaryOf(runs: Iterable<DigestedRun>): bigint {
  const all = sha256();
  const record = Buffer.alloc(8 + DIGEST_BYTES);
  for (const { start, digests } of runs) {
    // Page by page: how pages are parted into runs is not to matter.
    for (let i = 0; i * DIGEST_BYTES < digests.length; i++) {
      record.writeBigUInt64LE(start + BigInt(i) * PAGE, 0);
      digests.copy(record, 8, i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      all.update(record);
    }
  }
  return (all.digest().readBigUInt64LE(0) >> (64n - SUMMARY_BITS)) * PAGE;
}

/** The pages of `run` that were the same in `before`, which ascends; neighbours joined. */
export function unchanged(run: DigestedRun, before: readonly DigestedRun[]): PageRange[] {
  const same: { start: bigint; end: bigint }[] = [];
  for (let k = firstBehind(before, run.start); k < before.length; k++) {
    const old = before[k] as DigestedRun;
    if (old.start >= run.end) break;
    const from = old.start > run.start ? old.start : run.start;
    const end = old.end < run.end ? old.end : run.end;
    for (let at = from; at < end; at += PAGE) {
      const [a, b] = [placeIn(run, at), placeIn(old, at)];
      if (run.digests.compare(old.digests, b, b + DIGEST_BYTES, a, a + DIGEST_BYTES) !== 0) continue;
      const last = same.at(-1);
      if (last?.end === at) last.end = at + PAGE;
      else same.push({ start: at, end: at + PAGE });
    }
  }
  return same;
}

const placeIn = ({ start }: PageRange, at: bigint) => Number((at - start) / PAGE) * DIGEST_BYTES;

/** The first of ascending runs that ends behind an address. */
function firstBehind(runs: readonly DigestedRun[], address: bigint): number {
  let [low, high] = [0, runs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((runs[middle] as DigestedRun).end <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What an earlier dump has sent, by what it belongs to; nothing where it kept no digests. */
export function readDigests(directory: string): ReadonlyMap<bigint, readonly DigestedRun[]> {
  const all = new Map<bigint, DigestedRun[]>();
  const source = new DirectorySource(directory);
  try {
    if (!source.exists("FLOE_PAGE_DIGESTS", [])) return all;
    for (const { value } of source.records("FLOE_PAGE_DIGESTS", [], floePageDigests)) {
      const { dst, vaddr, digests } = value;
      const runs = all.get(dst) ?? [];
      all.set(dst, runs);
      const bytes = Buffer.from(digests);
      runs.push({ start: vaddr, end: vaddr + BigInt(Math.floor(bytes.length / DIGEST_BYTES)) * PAGE, digests: bytes });
    }
  } finally {
    source.close();
  }
  return all;
}

/** The record that {@link readDigests} reads. */
export function digestsRecord(dst: bigint, { start, digests }: DigestedRun): FloePageDigests {
  return { dst, vaddr: start, digests };
}
