/**
 * Making a page store out of raw pages images: equal pages found, chunks compressed by several lanes at once.
 */
import { fstatSync, writevSync } from "node:fs";
import { type InArea, LaneWork, Lanes, nativeFunction } from "../../linux/lanes.js";
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  type MemoryRange,
  PROT_READ,
  PROT_WRITE,
  mmap,
  munmap,
  ownMemory,
} from "../../linux/memory.js";
import { checksumFunction } from "../../linux/page-functions.js";
import { WriteBehind, isTooLargeForCache } from "../page-cache.js";
import { type Codec, requireCodec } from "./codecs.js";
import type { CodecName } from "./levels.js";
import { CHUNK_BYTES, CHUNK_PAGES, HEAD_BYTES, PAGE_BYTES, type StorePages, type StoredChunk, encodeTable } from "./format.js";
import { type PageOrder, allPages, distinctPages } from "./share.js";

/** What is to become of pages. */
export interface StoreOptions {
  readonly codec: CodecName;
  readonly level: number;
  /** Store equal pages once. */
  readonly share: boolean;
}

/** A raw pages image. */
export interface RawPages {
  readonly id: number;
  readonly fd: number;
}

/** Chunks compressed at once, while those before are written. */
const BATCH_CHUNKS = 64;
/** Room in the area of a lane in which pages from several places become one chunk. */
const GATHER: InArea = { inArea: 0 };
const WORKSPACE = CHUNK_BYTES;

/** Writes the store into `fd`; returns for each source which pages of the store are its own, in order. */
export function writeStore(fd: number, sources: readonly RawPages[], options: StoreOptions): Map<number, StorePages[]> {
  const views = sources.map(({ fd: from }) => viewOf(from));
  try {
    const order = options.share ? distinctPages(views) : allPages(views);
    new StoreWriter(fd, { views, order, options }).write();
    return new Map(sources.map(({ id }, i) => [id, order.runs[i] ?? []]));
  } finally {
    for (const view of views) view.close();
  }
}

/** A raw image, mapped. */
export interface PagesView {
  readonly address: bigint;
  readonly bytes: Buffer;
  readonly pages: number;
  close(): void;
}

function viewOf(fd: number): PagesView {
  const { size } = fstatSync(fd);
  const pages = Math.floor(size / PAGE_BYTES);
  if (pages === 0) return { address: 0n, bytes: Buffer.alloc(0), pages, close: () => undefined };
  const range = { address: mmap({ sizeBytes: BigInt(size), protection: PROT_READ, flags: MAP_SHARED, fd }), sizeBytes: BigInt(size) };
  return { address: range.address, bytes: ownMemory(range), pages, close: () => munmap(range) };
}

/** A chunk on its way. */
interface Chunk {
  readonly sizeBytes: number;
  /** Where its plain bytes are, in order. */
  readonly parts: readonly MemoryRange[];
  /** How many bytes compressing gave, 0 when it was no use; undefined: nobody tried. */
  readonly made: (() => number) | undefined;
  readonly slot: MemoryRange;
}

interface Batch {
  readonly work: LaneWork;
  readonly chunks: readonly Chunk[];
}

class StoreWriter {
  readonly #fd: number;
  readonly #views: readonly PagesView[];
  readonly #order: PageOrder;
  readonly #options: StoreOptions;
  readonly #codec: Codec;
  readonly #chunks: StoredChunk[] = [];
  readonly #behind: WriteBehind | undefined;
  #offset = HEAD_BYTES;

  constructor(fd: number, of: { views: readonly PagesView[]; order: PageOrder; options: StoreOptions }) {
    this.#fd = fd;
    this.#views = of.views;
    this.#order = of.order;
    this.#options = of.options;
    this.#codec = requireCodec(of.options.codec);
    this.#behind = isTooLargeForCache(of.order.count * PAGE_BYTES) ? new WriteBehind(fd) : undefined;
  }

  write(): void {
    const { native } = this.#codec;
    const roomBytes = native?.compressorBytes(this.#options.level) ?? 0;
    using lanes = new Lanes({ areaBytes: WORKSPACE + roomBytes });
    native?.prepare(lanes, { workspace: WORKSPACE, sizeBytes: roomBytes, isCompressor: true });
    const sizeBytes = BigInt(2 * BATCH_CHUNKS * CHUNK_BYTES);
    const slots = { address: mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS }), sizeBytes };
    try {
      this.#writeChunks(lanes, slots.address);
    } finally {
      munmap(slots);
    }
    const { codec, level } = this.#options;
    const { count, shared } = this.#order;
    const { head, table } = encodeTable({ codec, level, pages: count, chunks: this.#chunks, shared }, this.#offset);
    this.#put([table], this.#offset);
    this.#put([head], 0);
    this.#behind?.finish();
  }

  /** One batch is compressed while the one before it is written. */
  #writeChunks(lanes: Lanes, slots: bigint): void {
    const total = Math.ceil(this.#order.count / CHUNK_PAGES);
    let before: Batch | undefined;
    for (let first = 0, turn = 0; first < total; first += BATCH_CHUNKS, turn ^= 1) {
      const batch = this.#batch(first, Math.min(total, first + BATCH_CHUNKS), slots + BigInt(turn * BATCH_CHUNKS * CHUNK_BYTES));
      const running = lanes.start(batch.work);
      try {
        if (before !== undefined) this.#writeBatch(before);
      } finally {
        running.join();
      }
      before = batch;
    }
    if (before !== undefined) this.#writeBatch(before);
  }

  #batch(from: number, to: number, slots: bigint): Batch {
    const work = new LaneWork();
    const chunks: Chunk[] = [];
    for (let i = from; i < to; i++) {
      const pages = Math.min(CHUNK_PAGES, this.#order.count - i * CHUNK_PAGES);
      const sizeBytes = pages * PAGE_BYTES;
      const slot = { address: slots + BigInt((i - from) * CHUNK_BYTES), sizeBytes: BigInt(CHUNK_BYTES) };
      const parts = this.#parts(i * CHUNK_PAGES, pages);
      chunks.push({ sizeBytes, parts, slot, made: this.#compress(work, { parts, sizeBytes, slot }) });
    }
    return { work, chunks };
  }

  /** Where pages of the store are; neighbours joined. */
  #parts(first: number, pages: number): MemoryRange[] {
    const { sourceOf, pageOf } = this.#order;
    const parts: { address: bigint; sizeBytes: bigint }[] = [];
    for (let page = first; page < first + pages; page++) {
      const view = this.#views[sourceOf[page] as number] as PagesView;
      const address = view.address + BigInt((pageOf[page] as number) * PAGE_BYTES);
      const last = parts.at(-1);
      if (last !== undefined && last.address + last.sizeBytes === address) last.sizeBytes += BigInt(PAGE_BYTES);
      else parts.push({ address, sizeBytes: BigInt(PAGE_BYTES) });
    }
    return parts;
  }

  #compress(work: LaneWork, of: { parts: readonly MemoryRange[]; sizeBytes: number; slot: MemoryRange }): Chunk["made"] {
    const { native } = this.#codec;
    if (native === undefined) return undefined;
    const [only] = of.parts;
    const copy = nativeFunction("memcpy");
    work.group();
    let at: bigint | InArea = only?.address ?? 0n;
    if (of.parts.length > 1) {
      at = GATHER;
      let done = 0;
      for (const { address, sizeBytes } of of.parts) {
        work.call(copy, { inArea: GATHER.inArea + done }, address, sizeBytes);
        done += Number(sizeBytes);
      }
    }
    const to = { at: of.slot.address, sizeBytes: of.sizeBytes };
    const { level } = this.#options;
    return native.compress(work, { at, sizeBytes: of.sizeBytes }, to, { level, workspace: { inArea: WORKSPACE } });
  }

  #writeBatch({ chunks }: Batch): void {
    const stored = chunks.map((chunk) => this.#result(chunk));
    const work = new LaneWork();
    work.group();
    const sums = stored.map(({ address, sizeBytes }) => work.call(checksumFunction(), address, sizeBytes));
    work.runHere();
    let end = this.#offset;
    stored.forEach(({ sizeBytes }, i) => {
      this.#chunks.push({ offset: end, sizeBytes: Number(sizeBytes), checksum: Number(work.result(sums[i] as number)) });
      end += Number(sizeBytes);
    });
    this.#put(stored.map(ownMemory), this.#offset);
    this.#behind?.step({ offset: BigInt(this.#offset), sizeBytes: BigInt(end - this.#offset) });
    this.#offset = end;
  }

  /** What goes into the store for a chunk. */
  #result({ made, parts, slot, sizeBytes }: Chunk): MemoryRange {
    const madeBytes = made?.() ?? 0;
    if (madeBytes > 0 && madeBytes < sizeBytes) return { address: slot.address, sizeBytes: BigInt(madeBytes) };
    const [only] = parts;
    const isOnePart = parts.length === 1 && only !== undefined;
    let plain: MemoryRange = isOnePart ? only : { address: slot.address, sizeBytes: BigInt(sizeBytes) };
    if (!isOnePart) {
      const into = ownMemory(plain);
      let done = 0;
      for (const part of parts) done += ownMemory(part).copy(into, done);
    }
    if (made !== undefined || this.#codec.plain === undefined) return plain;
    const small = this.#codec.plain.compress(ownMemory(plain), this.#options.level);
    if (small === undefined || small.length >= sizeBytes) return plain;
    plain = { address: slot.address, sizeBytes: BigInt(small.length) };
    ownMemory(plain).set(small);
    return plain;
  }

  #put(pieces: readonly Buffer[], offset: number): void {
    let rest = pieces.filter((piece) => piece.length > 0);
    for (let at = offset; rest.length > 0; ) {
      let wrote = writevSync(this.#fd, rest, at);
      at += wrote;
      while (wrote > 0) {
        const [first] = rest;
        if (first === undefined) break;
        if (wrote >= first.length) {
          wrote -= first.length;
          rest = rest.slice(1);
        } else {
          rest = [first.subarray(wrote), ...rest.slice(1)];
          wrote = 0;
        }
      }
    }
  }
}
