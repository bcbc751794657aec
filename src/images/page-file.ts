/**
 * The bytes of pages as a reader sees them, whatever form they have in the directory.
 *
 * Everybody reads from a descriptor, so that the kernel can move the bytes (preadv in a task, sendfile, a mapping). Where
 * the image holds them in another form, the descriptor is that of a file in memory, into which they are put when asked for.
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { punchHole } from "../linux/files.js";
import type { ChunkReader } from "./store/read.js";

/** Bytes of pages at offsets of a descriptor. */
export interface PageFile {
  /** Name of the image, for messages. */
  readonly name: string;
  /** Where the bytes are, once {@link ready} was called for them. */
  readonly fd: number;
  readonly sizeBytes: bigint;
  /** Whether the image itself has the bytes as they are, at the same offsets: then all of them are always ready. */
  readonly isPlain: boolean;
  /** Sees to it that these bytes can be read from {@link fd}. */
  ready(offset: bigint, sizeBytes: bigint): void;
  /** These bytes will not be read again soon: gives back what memory they take. */
  done(offset: bigint, sizeBytes: bigint): void;
  /** Gives back the room of these bytes in the image itself, as far as nothing else is there; how many bytes that was. */
  punch(offset: bigint, sizeBytes: bigint): number;
  /** Where they are in chunks: a way for lanes to read these. */
  readonly chunks: ChunkReader | undefined;
}

/** A part of a page file. */
export interface PagePiece {
  readonly file: PageFile;
  readonly offset: bigint;
  readonly sizeBytes: bigint;
}

/** The pages of one pagemap, wherever they are. */
export interface StoredPages {
  /** Name of the image, for messages. */
  readonly name: string;
  readonly sizeBytes: bigint;
  /** Where bytes [offset, offset + sizeBytes) are, in order. */
  at(offset: bigint, sizeBytes: bigint): PagePiece[];
}

/** A raw image. */
export function plainPageFile(name: string, fd: number): PageFile {
  const nothing = () => undefined;
  const { size } = fstatSync(fd, { bigint: true });
  return { name, fd, sizeBytes: size, isPlain: true, ready: nothing, done: nothing, punch: punchPlain, chunks: undefined };

  function punchPlain(offset: bigint, sizeBytes: bigint): number {
    const writable = openSync(`/proc/self/fd/${fd}`, "r+");
    try {
      punchHole(writable, { offset, sizeBytes });
      return Number(sizeBytes);
    } finally {
      closeSync(writable);
    }
  }
}
