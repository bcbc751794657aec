/**
 * Reading a page store: any page by decompressing the chunk that has it.
 *
 * Who reads much at once (filling memory, by lanes) decompresses as part of its own work, see {@link ChunkReader}. For all
 * others a store is a file in memory, into which chunks are decompressed when they are asked for.
 */
import { closeSync, ftruncateSync, openSync, readSync } from "node:fs";
import { punchHole } from "../../linux/files.js";
import { type InArea, LaneWork, Lanes, type NativeArg, nativeFunction, writeIovec } from "../../linux/lanes.js";
import {
  MAP_NORESERVE,
  MAP_SHARED,
  MFD_CLOEXEC,
  type MemoryRange,
  PROT_READ,
  PROT_WRITE,
  memfdCreate,
  mmap,
  munmap,
  ownMemory,
} from "../../linux/memory.js";
import { checksumFunction } from "../../linux/page-functions.js";
import type { PageFile } from "../page-file.js";
import { type Codec, requireCodec } from "./codecs.js";
import {
  CHUNK_BYTES,
  CHUNK_PAGES,
  PAGE_BYTES,
  type StoreTable,
  type StoredChunk,
  badStore,
  checksum,
  plainBytesOf,
  readTable,
} from "./format.js";

/** What the area of a lane that reads pages has in it. */
export const PAGE_AREA = {
  vectors: 0,
  /** For a request that a lane puts together. */
  request: PAGE_BYTES / 2,
  plain: PAGE_BYTES,
  stored: PAGE_BYTES + CHUNK_BYTES,
  workspace: PAGE_BYTES + 2 * CHUNK_BYTES,
} as const;
const VECTOR_BYTES = 16;
const WORKSPACE_BYTES = 1 << 20;

/**
 * Lanes that read pages. Each has a buffer for the plain bytes of a chunk, and a vector (struct iovec) for every page of it that
 * goes from there to its end: a call that is given less room in the other vector takes as much.
 */
export function pageLanes(): Lanes {
  const lanes = new Lanes({ areaBytes: PAGE_AREA.workspace + WORKSPACE_BYTES });
  for (let i = 0; i < lanes.count; i++) {
    const { address, bytes } = lanes.area(i);
    for (let page = 0; page < CHUNK_PAGES; page++) {
      const range = { address: address + BigInt(PAGE_AREA.plain + page * PAGE_BYTES), sizeBytes: BigInt(CHUNK_BYTES - page * PAGE_BYTES) };
      writeIovec(bytes, PAGE_AREA.vectors + page * VECTOR_BYTES, range);
    }
  }
  return lanes;
}

/** The vector for what is in the buffer from a page on. */
export function vectorFrom(page: number): InArea {
  return { inArea: PAGE_AREA.vectors + page * VECTOR_BYTES };
}

/** Reading whole chunks by lanes that were made by {@link pageLanes}. */
export interface ChunkReader {
  readonly chunkBytes: number;
  /** Makes lanes ready for it; once for each set of lanes. */
  prepare(lanes: Lanes): void;
  /** Adds calls that put the plain bytes of a chunk at `to`. What is returned checks them afterwards. */
  addRead(work: LaneWork, chunk: number, to: NativeArg): () => void;
}

/** A page store that is open. Its offsets are those of its pages, as if they were not compressed. */
export class StoreFile implements PageFile {
  readonly name: string;
  readonly isPlain = false;
  readonly sizeBytes: bigint;
  readonly chunks: ChunkReader | undefined;
  readonly #stored: number;
  readonly #table: StoreTable;
  readonly #codec: Codec;
  /** Chunks that are in the file in memory. */
  readonly #ready: Uint8Array;
  /** Pages that were said to be needed no more. */
  #punched: Uint8Array | undefined;
  #plain: { readonly fd: number; readonly range: MemoryRange } | undefined;
  #lanes: Lanes | undefined;

  /** `fd` stays the caller's. */
  constructor(name: string, fd: number) {
    this.name = name;
    this.#stored = fd;
    this.#table = readTable(fd, name);
    this.sizeBytes = BigInt(this.#table.pages * PAGE_BYTES);
    this.#codec = requireCodec(this.#table.codec);
    this.#ready = new Uint8Array(this.#table.chunks.length);
    const isNative = this.#table.codec === "none" || this.#codec.native !== undefined;
    this.chunks = isNative ? this.#reader() : undefined;
  }

  get pages(): number {
    return this.#table.pages;
  }

  get codec(): string {
    return this.#table.codec;
  }

  get fd(): number {
    return this.#memory().fd;
  }

  #memory(): { readonly fd: number; readonly range: MemoryRange } {
    if (this.#plain !== undefined) return this.#plain;
    const fd = memfdCreate("floe-pages", MFD_CLOEXEC);
    ftruncateSync(fd, this.#table.pages * PAGE_BYTES);
    const sizeBytes = this.sizeBytes > 0n ? this.sizeBytes : BigInt(PAGE_BYTES);
    const address = mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED | MAP_NORESERVE, fd });
    this.#plain = { fd, range: { address, sizeBytes } };
    return this.#plain;
  }

  ready(offset: bigint, sizeBytes: bigint): void {
    const first = Number(offset / BigInt(CHUNK_BYTES));
    const last = Number((offset + sizeBytes - 1n) / BigInt(CHUNK_BYTES));
    const missing: number[] = [];
    for (let chunk = first; chunk <= last; chunk++) if (this.#ready[chunk] !== 1) missing.push(chunk);
    if (missing.length === 0) return;
    const { address } = this.#memory().range;
    if (this.chunks === undefined) this.#inflateHere(missing, address);
    else {
      const work = new LaneWork();
      const checks = missing.map((chunk) => {
        work.group();
        return this.chunks?.addRead(work, chunk, address + BigInt(chunk * CHUNK_BYTES));
      });
      if (this.#lanes === undefined) {
        this.#lanes = pageLanes();
        this.chunks.prepare(this.#lanes);
      }
      this.#lanes.run(work);
      for (const check of checks) check?.();
    }
    for (const chunk of missing) this.#ready[chunk] = 1;
  }

  done(offset: bigint, sizeBytes: bigint): void {
    if (this.#plain === undefined) return;
    const first = Number((offset + BigInt(CHUNK_BYTES) - 1n) / BigInt(CHUNK_BYTES));
    const end = offset + sizeBytes === this.sizeBytes ? this.#ready.length : Number((offset + sizeBytes) / BigInt(CHUNK_BYTES));
    if (end <= first) return;
    this.#ready.fill(0, first, end);
    punchHole(this.#plain.fd, { offset: BigInt(first * CHUNK_BYTES), sizeBytes: BigInt((end - first) * CHUNK_BYTES) });
  }

  /** Gives back the room of chunks of which no page is needed any more. Pages that others refer to stay. */
  punch(offset: bigint, sizeBytes: bigint): number {
    this.#punched ??= this.#keptByOthers();
    const first = Number(offset / BigInt(PAGE_BYTES));
    const end = first + Number(sizeBytes / BigInt(PAGE_BYTES));
    for (let page = first; page < end; page++) if (this.#punched[page] === 0) this.#punched[page] = 1;
    let freed = 0;
    let writable: number | undefined;
    try {
      for (let chunk = Math.floor(first / CHUNK_PAGES); chunk * CHUNK_PAGES < end; chunk++) {
        const pages = this.#punched.subarray(chunk * CHUNK_PAGES, (chunk + 1) * CHUNK_PAGES);
        const { offset: at, sizeBytes: bytes } = this.#table.chunks[chunk] as StoredChunk;
        if (!pages.every((state) => state === 1)) continue;
        writable ??= openSync(`/proc/self/fd/${this.#stored}`, "r+");
        punchHole(writable, { offset: BigInt(at), sizeBytes: BigInt(bytes) });
        freed += bytes;
      }
      return freed;
    } finally {
      if (writable !== undefined) closeSync(writable);
    }
  }

  /** For each page 0, or 2 where it must stay. */
  #keptByOthers(): Uint8Array {
    const states = new Uint8Array(this.#table.pages);
    for (const { first, pages } of this.#table.shared) states.fill(2, first, first + pages);
    return states;
  }

  /** Without lanes: where the library is not there. */
  #inflateHere(chunks: readonly number[], address: bigint): void {
    for (const chunk of chunks) {
      const { offset, sizeBytes, checksum: sum } = this.#table.chunks[chunk] as StoredChunk;
      const plainBytes = plainBytesOf(chunk, this.#table.pages);
      const stored = Buffer.alloc(sizeBytes);
      let got = 0;
      for (let now = -1; now !== 0 && got < sizeBytes; got += now) now = readSync(this.#stored, stored, got, sizeBytes - got, offset + got);
      if (got !== sizeBytes || checksum(stored) !== sum) throw this.#bad(chunk, "its checksum is wrong");
      const plain = sizeBytes === plainBytes ? stored : this.#codec.plain?.decompress(stored, plainBytes);
      if (plain === undefined || plain.length !== plainBytes) throw this.#bad(chunk, "it cannot be decompressed");
      ownMemory({ address: address + BigInt(chunk * CHUNK_BYTES), sizeBytes: BigInt(plainBytes) }).set(plain);
    }
  }

  #bad(chunk: number, because: string) {
    return badStore(this.name, this.#table.chunks[chunk]?.offset ?? 0, `chunk ${chunk} of its pages: ${because}`);
  }

  #reader(): ChunkReader {
    const { native } = this.#codec;
    return {
      chunkBytes: CHUNK_BYTES,
      prepare: (lanes) => {
        const sizeBytes = native?.decompressorBytes ?? 0;
        if (sizeBytes > WORKSPACE_BYTES) throw new Error("internal error: the library wants more room to decompress than expected");
        native?.prepare(lanes, { workspace: PAGE_AREA.workspace, sizeBytes, isCompressor: false });
      },
      addRead: (work, chunk, to) => {
        const { offset, sizeBytes, checksum: sum } = this.#table.chunks[chunk] as StoredChunk;
        const plainBytes = plainBytesOf(chunk, this.#table.pages);
        const isPlain = sizeBytes === plainBytes;
        const into: NativeArg = isPlain ? to : { inArea: PAGE_AREA.stored };
        const read = work.call(nativeFunction("pread"), this.#stored, into, sizeBytes, offset);
        const summed = work.call(checksumFunction(), into, sizeBytes);
        const from = { at: into, sizeBytes };
        const made = isPlain
          ? undefined
          : native?.decompress(work, from, { at: to, sizeBytes: plainBytes }, { inArea: PAGE_AREA.workspace });
        return () => {
          if (work.result(read) !== BigInt(sizeBytes))
            throw this.#bad(chunk, `only ${work.result(read)} of ${sizeBytes} bytes could be read`);
          if (Number(work.result(summed)) !== sum) throw this.#bad(chunk, "its checksum is wrong");
          if (made !== undefined && made() !== plainBytes) throw this.#bad(chunk, "it cannot be decompressed");
        };
      },
    };
  }

  close(): void {
    this.#lanes?.close();
    this.#lanes = undefined;
    if (this.#plain === undefined) return;
    munmap(this.#plain.range);
    closeSync(this.#plain.fd);
    this.#plain = undefined;
  }
}
