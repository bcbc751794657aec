/**
 * Reading an image directory. Images are untrusted: framing, lengths and references are checked before use.
 */
import { closeSync, existsSync, openSync, readFileSync, readdirSync, readlinkSync, realpathSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { ImageError, UsageError } from "../errors.js";
import { Alike, decode } from "./codec/decode.js";
import type { MessageType } from "./codec/schema.js";
import { type StoredPages, plainPageFile } from "./page-file.js";
import { floePageIndex } from "./page-index.schema.js";
import { indexedPages } from "./store/page-index.js";
import { StoreFile } from "./store/read.js";
import { COMMON_MAGIC, IMAGE_KINDS, type ImageKindName, PARENT_LINK, SERVICE_MAGIC, imageFileName } from "./kinds.js";

const MAX_MESSAGE_BYTES = 256 << 20;
const NO_BYTES = Buffer.alloc(0);

/** A record and the bytes that follow it. */
export interface ReadRecord<T> {
  readonly value: T;
  readonly extra: Buffer;
  readonly offsetBytes: number;
}

/** Where a directory is only what somebody else is asked for. */
export interface Origin {
  /** Puts an image into the directory, if there is one; called once for each name, before it is looked at. */
  readonly fetch?: ((name: string) => void) | undefined;
  /** Called when the directory is needed no longer. */
  readonly end: () => void;
}

/** Reads images out of one directory. */
export class DirectorySource {
  readonly directory: string;
  readonly #raw = new Map<string, number>();
  readonly #pages = new Map<string, StoredPages>();
  #store: StoreFile | undefined;
  /** The directories of the chain so far, to notice one that goes round in a circle. */
  readonly #chain: ReadonlySet<string>;
  #parent: DirectorySource | undefined;
  readonly #origin: Origin | undefined;
  readonly #fetched = new Set<string>();
  /** What is read is changed by nobody. */
  readonly #alike = new Alike();
  /** What is in the directory: images are whole when they are read. */
  readonly #names: ReadonlySet<string>;

  constructor(directory: string, chain: ReadonlySet<string> = new Set(), origin?: Origin) {
    this.directory = directory;
    this.#origin = origin;
    this.#chain = chain;
    try {
      this.#names = new Set(readdirSync(directory));
    } catch (cause) {
      throw new UsageError({
        code: "IMAGES_DIR_UNUSABLE",
        message: `Cannot read the images directory "${directory}": ${cause instanceof Error ? cause.message : String(cause)}`,
        remedy: ["Name the directory of a dump with --images-dir"],
        cause,
      });
    }
  }

  exists(kind: ImageKindName, ids: readonly (number | bigint)[]): boolean {
    return this.#isThere(imageFileName(kind, ids));
  }

  #isThere(name: string): boolean {
    return this.#origin?.fetch === undefined ? this.#names.has(name) : existsSync(this.#path(name));
  }

  #path(name: string): string {
    const fetch = this.#origin?.fetch;
    if (fetch !== undefined && !this.#fetched.has(name)) {
      this.#fetched.add(name);
      fetch(name);
    }
    return join(this.directory, name);
  }

  /** All records of an image; a missing image has none. `extraBytes` says how many of the bytes behind a record, `rest`, belong to it. */
  records<T>(
    kind: ImageKindName,
    ids: readonly (number | bigint)[],
    type: MessageType<T>,
    extraBytes?: (value: T, rest: Buffer) => number,
  ): ReadRecord<T>[] {
    const out: ReadRecord<T>[] = [];
    this.#each(kind, ids, (body, file, at, rest) => {
      const value = decode(type, body(), { file, offsetBytes: at, alike: this.#alike });
      const extra = extraBytes === undefined ? 0 : extraBytes(value, rest());
      out.push({ value, extra: extra === 0 ? NO_BYTES : body(extra), offsetBytes: at - 4 });
      return extra;
    });
    return out;
  }

  /** An image whose first record is of another type than all others. */
  headed<H, T>(
    kind: ImageKindName,
    ids: readonly (number | bigint)[],
    types: { head: MessageType<H>; record: MessageType<T> },
  ): { head: H | undefined; records: T[] } {
    let head: H | undefined;
    const records: T[] = [];
    this.#each(kind, ids, (body, file, at) => {
      if (head === undefined) head = decode(types.head, body(), { file, offsetBytes: at, alike: this.#alike });
      else records.push(decode(types.record, body(), { file, offsetBytes: at, alike: this.#alike }));
      return 0;
    });
    return { head, records };
  }

  /**
   * Calls `take` for every record; it gets the message by `body()`, the bytes that follow it by `body(length)`, all that is left as
   * `rest()`, and returns how many of those belong to it.
   */
  #each(
    kind: ImageKindName,
    ids: readonly (number | bigint)[],
    take: (body: (extra?: number) => Buffer, file: string, at: number, rest: () => Buffer) => number,
  ): void {
    const file = imageFileName(kind, ids);
    if (!this.#isThere(file)) return;
    const bytes = readFileSync(this.#path(file));
    for (let at = checkMagic(kind, file, bytes); at < bytes.length; ) {
      const length = at + 4 <= bytes.length ? bytes.readUInt32LE(at) : Number.POSITIVE_INFINITY;
      const start = at + 4;
      const end = start + length;
      if (length > MAX_MESSAGE_BYTES || end > bytes.length) {
        throw bad(file, at, `a record of ${length} bytes is announced, ${Math.max(0, bytes.length - start)} are left`);
      }
      const body = (extra?: number) => {
        if (extra === undefined) return bytes.subarray(start, end);
        if (extra < 0 || end + extra > bytes.length)
          throw bad(file, end, `${extra} bytes should follow the record, ${bytes.length - end} are left`);
        return bytes.subarray(end, end + extra);
      };
      at = end + take(body, file, start, () => bytes.subarray(end));
    }
  }

  /** The one record that an image must have. */
  single<T>(kind: ImageKindName, ids: readonly (number | bigint)[], type: MessageType<T>): T {
    const [first] = this.records(kind, ids, type);
    if (first !== undefined) return first.value;
    this.mustExist(kind, ids);
    throw missing(imageFileName(kind, ids), "it has no record");
  }

  /** Throws when there is no such image. */
  mustExist(kind: ImageKindName, ids: readonly (number | bigint)[]): void {
    if (!this.exists(kind, ids)) throw missing(imageFileName(kind, ids), "there is no such file");
  }

  /** A descriptor of a raw image for reading; closed by {@link close}. */
  rawFile(name: string): number {
    const found = this.#raw.get(name);
    if (found !== undefined) return found;
    try {
      const fd = openSync(this.#path(name), "r");
      this.#raw.set(name, fd);
      return fd;
    } catch (cause) {
      throw new ImageError({
        code: "IMAGE_MISSING",
        place: { file: name },
        because: cause instanceof Error ? cause.message : String(cause),
        remedy: ["Use a complete copy of the images directory"],
        cause,
      });
    }
  }

  /** The pages of a pagemap, by the number that it gives: in the raw image `pages-ID.img`, or in the page store. */
  pages(id: number): StoredPages {
    const name = imageFileName("PAGES", [id]);
    let pages = this.#pages.get(name);
    if (pages !== undefined) return pages;
    if (this.exists("FLOE_PAGE_INDEX", [id]) && !this.exists("PAGES", [id])) pages = this.#fromStore(id);
    else {
      const file = plainPageFile(name, this.rawFile(name));
      pages = { name, sizeBytes: file.sizeBytes, at: (offset, sizeBytes) => [{ file, offset, sizeBytes }] };
    }
    this.#pages.set(name, pages);
    return pages;
  }

  #fromStore(id: number): StoredPages {
    const name = imageFileName("FLOE_PAGE_STORE", []);
    this.#store ??= new StoreFile(name, this.rawFile(name));
    const index = imageFileName("FLOE_PAGE_INDEX", [id]);
    return indexedPages(this.#store, index, this.records("FLOE_PAGE_INDEX", [id], floePageIndex));
  }

  /** Whether there are such {@link pages}. */
  hasPages(id: number): boolean {
    return this.exists("PAGES", [id]) || this.exists("FLOE_PAGE_INDEX", [id]);
  }

  /** The images that these ones are the difference to; undefined when they stand alone. */
  parent(): DirectorySource | undefined {
    if (this.#parent !== undefined) return this.#parent;
    const path = join(this.directory, PARENT_LINK);
    if (!existsSync(path)) return undefined;
    // Without the links on the way: the kernel follows only so many in one path, and a chain may be longer.
    const own = this.#origin === undefined ? realpathSync(this.directory) : this.directory;
    const link = readlinkSync(path);
    const parent = realpathSync(isAbsolute(link) ? link : path);
    if (parent === own || this.#chain.has(parent)) {
      throw new ImageError({
        code: "IMAGE_BAD_PARENT",
        place: { file: PARENT_LINK },
        because: `the link in "${own}" leads to "${parent}", which is built on it: the chain goes round in a circle`,
        remedy: ["Point the links named parent at the images of the dump before"],
      });
    }
    this.#parent = new DirectorySource(parent, new Set([...this.#chain, own]));
    return this.#parent;
  }

  close(): void {
    this.#parent?.close();
    this.#parent = undefined;
    for (const fd of this.#raw.values()) closeSync(fd);
    this.#raw.clear();
    this.#pages.clear();
    this.#store?.close();
    this.#store = undefined;
    this.#origin?.end();
  }
}

/** Checks the magics of an image and returns the offset of the first record. Version 1 images have only their own magic. */
export function checkMagic(kind: ImageKindName, file: string, bytes: Buffer): number {
  const { framing, magic } = IMAGE_KINDS[kind];
  if (framing === "raw") return 0;
  const first = bytes.length >= 4 ? bytes.readUInt32LE(0) : undefined;
  if (first === magic) return 4;
  const common = framing === "service" ? SERVICE_MAGIC : COMMON_MAGIC;
  if (first !== common) throw bad(file, 0, first === undefined ? "it is cut off" : "it does not begin with the magic of an image");
  const second = bytes.length >= 8 ? bytes.readUInt32LE(4) : undefined;
  if (second !== magic) throw bad(file, 4, second === undefined ? "it is cut off" : "it is an image of another kind");
  return 8;
}

function missing(file: string, because: string): ImageError {
  return new ImageError({
    code: "IMAGE_MISSING",
    place: { file },
    because,
    remedy: ["Use a complete copy of the images directory", "Dump the process again"],
  });
}

function bad(file: string, offsetBytes: number, because: string): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_FRAMING",
    place: { file, offsetBytes },
    because,
    remedy: ["Use an intact copy of the image", "Dump the process again"],
  });
}
