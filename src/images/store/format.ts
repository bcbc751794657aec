/**
 * The form of floe-page-store.img: pages in chunks of 64, each compressed on its own, so that any one can be read alone.
 *
 *   head     64 bytes: the magics of an image, version, codec, level, numbers of pages, chunks and shared ranges, where the
 *            table is, checksums of the table and of the head itself
 *   chunks   one behind the other; one that would not have become smaller is there as it is
 *   table    for each chunk 16 bytes: u64 offset, u32 bytes, u32 CRC-32C of these
 *   shared   for each range of pages that more than one place of the images refers to: u64 first page, u64 pages
 *
 * All numbers are little endian.
 */
import { fstatSync, readSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { LaneWork } from "../../linux/lanes.js";
import { checksumFunction } from "../../linux/page-functions.js";
import { COMMON_MAGIC } from "../kinds.js";
import { CODECS, type CodecName } from "./levels.js";

export const PAGE_BYTES = 4096;
export const CHUNK_PAGES = 64;
export const CHUNK_BYTES = CHUNK_PAGES * PAGE_BYTES;
export const HEAD_BYTES = 64;
const STORE_MAGIC = 0x46504753;
const ENTRY_BYTES = 16;
const VERSION = 1;
/** More than any machine has memory (16 TiB), and a table that can still be read as a whole. */
const MOST_CHUNKS = 1 << 26;

export interface StoredChunk {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly checksum: number;
}

/** Pages [first, first + pages) of a store. */
export interface StorePages {
  readonly first: number;
  readonly pages: number;
}

export interface StoreTable {
  readonly codec: CodecName;
  readonly level: number;
  readonly pages: number;
  readonly chunks: readonly StoredChunk[];
  readonly shared: readonly StorePages[];
}

/** The plain bytes of a chunk; only the last one may have fewer. */
export function plainBytesOf(chunk: number, pages: number): number {
  return Math.min(CHUNK_PAGES, pages - chunk * CHUNK_PAGES) * PAGE_BYTES;
}

/** CRC-32C. */
export function checksum(bytes: Uint8Array): number {
  // Nothing has no address in every runtime.
  if (bytes.length === 0) return 0;
  const work = new LaneWork();
  work.group();
  const call = work.call(checksumFunction(), bytes, bytes.length);
  work.runHere();
  return Number(work.result(call));
}

/** The head, and the table that is to be written at `tableOffset`. */
export function encodeTable(store: StoreTable, tableOffset: number): { head: Buffer; table: Buffer } {
  const table = Buffer.alloc((store.chunks.length + store.shared.length) * ENTRY_BYTES);
  let at = 0;
  for (const { offset, sizeBytes, checksum: sum } of store.chunks) {
    table.writeBigUInt64LE(BigInt(offset), at);
    table.writeUInt32LE(sizeBytes, at + 8);
    table.writeUInt32LE(sum, at + 12);
    at += ENTRY_BYTES;
  }
  for (const { first, pages } of store.shared) {
    table.writeBigUInt64LE(BigInt(first), at);
    table.writeBigUInt64LE(BigInt(pages), at + 8);
    at += ENTRY_BYTES;
  }
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(COMMON_MAGIC, 0);
  head.writeUInt32LE(STORE_MAGIC, 4);
  head.writeUInt32LE(VERSION, 8);
  head.writeUInt16LE(CODECS.indexOf(store.codec), 12);
  head.writeUInt16LE(store.level, 14);
  head.writeUInt32LE(CHUNK_PAGES, 16);
  head.writeBigUInt64LE(BigInt(store.pages), 24);
  head.writeBigUInt64LE(BigInt(store.chunks.length), 32);
  head.writeBigUInt64LE(BigInt(store.shared.length), 40);
  head.writeBigUInt64LE(BigInt(tableOffset), 48);
  head.writeUInt32LE(checksum(table), 56);
  head.writeUInt32LE(checksum(head.subarray(0, 60)), 60);
  return { head, table };
}

/** Reads and checks head and table. */
export function readTable(fd: number, file: string): StoreTable {
  const sizeBytes = fstatSync(fd).size;
  const fail = (offsetBytes: number, because: string) => badStore(file, offsetBytes, because);
  const head = readAt(fd, 0, Math.min(sizeBytes, HEAD_BYTES));
  if (head.length < HEAD_BYTES) throw fail(0, "it is cut off");
  if (head.readUInt32LE(0) !== COMMON_MAGIC || head.readUInt32LE(4) !== STORE_MAGIC)
    throw fail(0, "it does not begin with the magics of a page store");
  if (head.readUInt32LE(60) !== checksum(head.subarray(0, 60))) throw fail(0, "the checksum of its head is wrong");
  const version = head.readUInt32LE(8);
  const codec = CODECS[head.readUInt16LE(12)];
  const [pages, chunks, shared, tableOffset] = [24, 32, 40, 48].map((at) => Number(head.readBigUInt64LE(at))) as [
    number,
    number,
    number,
    number,
  ];
  if (version !== VERSION || codec === undefined || head.readUInt32LE(16) !== CHUNK_PAGES)
    throw fail(8, `version ${version} with these chunks or this compression is not known; use a newer version of Floe`);
  if (chunks > MOST_CHUNKS || shared > MOST_CHUNKS || pages > chunks * CHUNK_PAGES || pages <= (chunks - 1) * CHUNK_PAGES)
    throw fail(24, `${pages} pages in ${chunks} chunks are impossible`);
  const tableBytes = (chunks + shared) * ENTRY_BYTES;
  if (tableOffset < HEAD_BYTES || tableOffset + tableBytes !== sizeBytes)
    throw fail(48, `a table of ${tableBytes} bytes is announced at ${tableOffset}, and the file has ${sizeBytes} bytes`);
  const table = readAt(fd, tableOffset, tableBytes);
  if (table.length !== tableBytes || head.readUInt32LE(56) !== checksum(table))
    throw fail(tableOffset, "the checksum of its table is wrong");
  const list = (count: number, from: number) => Array.from({ length: count }, (_, i) => tableOffset + (from + i) * ENTRY_BYTES);
  return {
    codec,
    level: head.readUInt16LE(14),
    pages,
    chunks: list(chunks, 0).map((at, i) => chunkAt(table, at - tableOffset, { plain: plainBytesOf(i, pages), tableOffset, file })),
    shared: list(shared, chunks).map((at) => {
      const [first, count] = [Number(table.readBigUInt64LE(at - tableOffset)), Number(table.readBigUInt64LE(at - tableOffset + 8))];
      if (count === 0 || first + count > pages) throw fail(at, `${count} shared pages from page ${first} on are impossible`);
      return { first, pages: count };
    }),
  };
}

function chunkAt(table: Buffer, at: number, on: { plain: number; tableOffset: number; file: string }): StoredChunk {
  const offset = Number(table.readBigUInt64LE(at));
  const sizeBytes = table.readUInt32LE(at + 8);
  if (sizeBytes === 0 || sizeBytes > on.plain || offset < HEAD_BYTES || offset + sizeBytes > on.tableOffset)
    throw badStore(on.file, on.tableOffset + at, `a chunk of ${sizeBytes} bytes at ${offset} is impossible`);
  return { offset, sizeBytes, checksum: table.readUInt32LE(at + 12) };
}

function readAt(fd: number, offset: number, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let done = 0;
  while (done < sizeBytes) {
    const got = readSync(fd, bytes, done, sizeBytes - done, offset + done);
    if (got === 0) break;
    done += got;
  }
  return bytes.subarray(0, done);
}

export function badStore(file: string, offsetBytes: number, because: string): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_PAGE_STORE",
    place: { file, offsetBytes },
    because,
    remedy: ["Use an intact copy of the images directory", "Dump the process again"],
  });
}
