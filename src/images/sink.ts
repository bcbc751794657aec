/**
 * Writing an image directory: records are gathered in memory while the target stands still and go to disk afterwards.
 *
 * Files are made 0600 in a directory made 0700. A file that gets no record is not made. Images that an earlier dump left
 * in the directory of a new one go: a restore must never mix the two. The inventory, without which there is no restore,
 * goes first and comes last, so that what a killed dump leaves does not pass for images.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  symlinkSync,
  unlinkSync,
  writevSync,
} from "node:fs";
import { basename, join } from "node:path";
import { UsageError } from "../errors.js";
import { O_TMPFILE, linkat } from "../linux/files.js";
import { MessageWriter } from "./codec/encode.js";
import type { MessageType } from "./codec/schema.js";
import { COMMON_MAGIC, IMAGE_KINDS, type ImageKindName, PARENT_LINK, SERVICE_MAGIC, imageFileName } from "./kinds.js";
import { floePageIndex } from "./page-index.schema.js";
import { requireCodec } from "./store/codecs.js";
import { type StoreOptions, writeStore } from "./store/write.js";

const OPEN_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
/** Extra bytes up to this size are copied behind their record; bigger ones are written from where they are. */
const COPY_LIMIT_BYTES = 64 << 10;
const WRITEV_LIMIT = 1024;
const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;

/** A record: its schema, its value, and the bytes that follow it. */
export interface ImageRecord<T> {
  readonly type: MessageType<T>;
  readonly value: T;
  readonly extra?: Uint8Array;
}

/** An image that is being gathered: finished pieces, and records still being added. */
interface PendingFile {
  readonly chunks: Buffer[];
  writer: MessageWriter;
}

/** Where the images of a dump go. */
export interface DumpSink {
  append<T>(kind: ImageKindName, ids: readonly (number | bigint)[], record: ImageRecord<T>): void;
  touch(kind: ImageKindName, ids: readonly (number | bigint)[]): void;
  rawFile(name: string): number;
  scratch(): number | undefined;
  giveName(fd: number, name: string): void;
  finish(durable?: boolean): void;
  discard(): void;
}

const IMAGE_SUFFIX = ".img";
const INVENTORY = imageFileName("INVENTORY", []);
/** Images that belong to a directory, not to one dump. */
const LASTING: readonly ImageKindName[] = ["CPUINFO", "IRMAP_CACHE", "STATS_DUMP", "STATS_RESTORE"];

/** Names of images that a dump makes. Not for each dump: a new directory has none, and to make and compile this takes a millisecond. */
function imagesOfDumps(): RegExp {
  return new RegExp(
    `^(${Object.entries(IMAGE_KINDS)
      .filter(([kind]) => !LASTING.includes(kind as ImageKindName))
      .map(([, { file }]) => file.replaceAll(".", "\\.").replaceAll("%u", "\\d+").replaceAll("%x", "[0-9a-f]+"))
      .join("|")})$`,
  );
}

const pagesImage = /^pages-(\d+)\.img$/;

export interface SinkOptions {
  /** The images become those of a whole dump; what an earlier one left in the directory goes. */
  readonly supersedes?: boolean;
  /** What becomes of pages; by default they are in plain images, as CRIU has them. */
  readonly pages?: StoreOptions | undefined;
}

/** The magics that an image begins with. */
export function imageHead(kind: ImageKindName): Buffer {
  const { framing, magic } = IMAGE_KINDS[kind];
  const head = Buffer.alloc(8);
  let at = 0;
  if (framing === "plain") at = head.writeUInt32LE(COMMON_MAGIC, at);
  if (framing === "service") at = head.writeUInt32LE(SERVICE_MAGIC, at);
  if (framing !== "raw") at = head.writeUInt32LE(magic, at);
  return head.subarray(0, at);
}

/** Those of `names` that an earlier dump left there. */
function olderImages(directory: string, names: readonly string[]): string[] {
  const images = names.some((name) => name.endsWith(IMAGE_SUFFIX)) ? imagesOfDumps() : undefined;
  return names.filter((name) => images?.test(name) === true || isParentLink(join(directory, name)));
}

/** Gathers images and writes them into one directory. */
export class DirectorySink implements DumpSink {
  readonly directory: string;
  readonly #files = new Map<string, PendingFile>();
  readonly #raw = new Map<string, number>();
  readonly #made: string[] = [];
  readonly #nameless: number[] = [];
  readonly #storeOptions: StoreOptions | undefined;
  /** Names of images of an earlier dump. */
  #older: string[] = [];
  private last: { readonly kind: ImageKindName; readonly id: number | bigint | undefined; readonly file: PendingFile } | undefined;

  /** Opens the directory, making it if need be (0700). */
  constructor(directory: string, { supersedes = false, pages }: SinkOptions = {}) {
    this.directory = directory;
    if (pages !== undefined) requireCodec(pages.codec);
    this.#storeOptions = pages;
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      const names = readdirSync(directory);
      if (supersedes) this.#older = olderImages(directory, names);
    } catch (cause) {
      throw new UsageError({
        code: "IMAGES_DIR_UNUSABLE",
        message: `Cannot use the images directory "${directory}": ${cause instanceof Error ? cause.message : String(cause)}`,
        remedy: ["Name a directory that can be written with --images-dir"],
        cause,
      });
    }
  }

  /** Adds a record to the image of `kind` with the number(s) `ids` in its name. */
  append<T>(kind: ImageKindName, ids: readonly (number | bigint)[], record: ImageRecord<T>): void {
    const file = this.#pending(kind, ids);
    file.writer.record(record.type, record.value);
    const { extra } = record;
    if (extra === undefined) return;
    if (extra.length <= COPY_LIMIT_BYTES) {
      file.writer.raw(extra);
      return;
    }
    file.chunks.push(file.writer.written(), Buffer.from(extra.buffer, extra.byteOffset, extra.byteLength));
    file.writer = new MessageWriter();
  }

  /** Makes the image of `kind` even if it gets no record. */
  touch(kind: ImageKindName, ids: readonly (number | bigint)[]): void {
    this.#pending(kind, ids);
  }

  #pending(kind: ImageKindName, ids: readonly (number | bigint)[]): PendingFile {
    // Records of one image mostly follow one another.
    const { last } = this;
    if (last !== undefined && last.kind === kind && last.id === ids[0] && ids.length < 2) return last.file;
    const name = imageFileName(kind, ids);
    let file = this.#files.get(name);
    if (file === undefined) {
      file = { chunks: [imageHead(kind)], writer: new MessageWriter() };
      this.#files.set(name, file);
    }
    if (ids.length < 2) this.last = { kind, id: ids[0], file };
    return file;
  }

  /** A descriptor for raw bytes (pages, queues), made at once; closed by {@link finish} or {@link discard}. */
  rawFile(name: string): number {
    const found = this.#raw.get(name);
    if (found !== undefined) return found;
    const fd = this.#create(name);
    this.#raw.set(name, fd);
    return fd;
  }

  /** A file without a name in the directory; undefined where the file system has no such files. Closed like a raw file. */
  scratch(): number | undefined {
    try {
      const fd = openSync(this.directory, O_TMPFILE | constants.O_RDWR, 0o600);
      this.#nameless.push(fd);
      return fd;
    } catch {
      return undefined;
    }
  }

  /** Gives a scratch file a name: it is a raw image then. */
  giveName(fd: number, name: string): void {
    const path = join(this.directory, name);
    this.#invalidateOlder();
    removeIfThere(path);
    linkat({ dirfd: AT_FDCWD, path: `/proc/self/fd/${fd}` }, { dirfd: AT_FDCWD, path }, AT_SYMLINK_FOLLOW);
    this.#made.push(path);
    this.#raw.set(name, fd);
    this.#nameless.splice(this.#nameless.indexOf(fd), 1);
  }

  /** Makes the link to the images of the dump before; `target` is relative to the directory. */
  linkParent(target: string): void {
    const path = join(this.directory, PARENT_LINK);
    this.#invalidateOlder();
    removeIfThere(path);
    symlinkSync(target, path);
    this.#older = this.#older.filter((name) => name !== PARENT_LINK);
    this.#made.push(path);
  }

  /** From its first new file on, a directory no longer passes for that of the earlier dump. */
  #invalidateOlder(): void {
    if (this.#made.length === 0 && this.#older.includes(INVENTORY)) this.#remove(INVENTORY);
  }

  #create(name: string): number {
    const path = join(this.directory, name);
    this.#invalidateOlder();
    try {
      const fd = openSync(path, OPEN_FLAGS, 0o600);
      this.#made.push(path);
      fchmodSync(fd, 0o600);
      return fd;
    } catch (cause) {
      throw notWritable(path, cause, "Name an empty directory on a file system with room with --images-dir");
    }
  }

  /** Writes what was gathered. `durable`: nothing is lost if the machine stops right after (fsync). */
  finish(durable = false): void {
    if (this.#storeOptions !== undefined) this.#storePages(this.#storeOptions);
    const files = [...this.#files].sort(([a], [b]) => Number(a === INVENTORY) - Number(b === INVENTORY));
    for (const name of this.#older) if (!this.#files.has(name) && !this.#raw.has(name)) this.#remove(name);
    for (const [name, { chunks, writer }] of files) {
      const fd = this.#create(name);
      try {
        writeAll(fd, [...chunks, writer.written()], join(this.directory, name));
        if (durable) fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    }
    this.#files.clear();
    this.last = undefined;
    this.#closeRaw();
  }

  /** Puts the pages of all raw images into the page store, and removes those. */
  #storePages(options: StoreOptions): void {
    const raw = [...this.#raw].flatMap(([name, fd]) => {
      const id = pagesImage.exec(name)?.[1];
      return id === undefined ? [] : [{ name, fd, id: Number(id) }];
    });
    if (raw.length === 0) return;
    const store = imageFileName("FLOE_PAGE_STORE", []);
    let index: ReturnType<typeof writeStore>;
    try {
      index = writeStore(this.rawFile(store), raw, options);
    } catch (cause) {
      throw notWritable(join(this.directory, store), cause, "Make room on its file system");
    }
    for (const [id, runs] of index) {
      this.touch("FLOE_PAGE_INDEX", [id]);
      for (const { first, pages } of runs) {
        this.append("FLOE_PAGE_INDEX", [id], { type: floePageIndex, value: { first_page: BigInt(first), nr_pages: BigInt(pages) } });
      }
    }
    for (const { name, fd } of raw) {
      closeSync(fd);
      this.#raw.delete(name);
      this.#remove(name);
    }
  }

  #closeRaw(): void {
    for (const fd of [...this.#raw.values(), ...this.#nameless.splice(0)]) closeSync(fd);
    this.#raw.clear();
  }

  /** Removes every file this sink has made. */
  discard(): void {
    this.#closeRaw();
    this.#files.clear();
    this.last = undefined;
    for (const path of this.#made) removeIfThere(path);
  }

  #remove(name: string): void {
    removeIfThere(join(this.directory, name));
  }
}

/** Only the link that a dump made: whatever else has that name is somebody's own. */
function isParentLink(path: string): boolean {
  return basename(path) === PARENT_LINK && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else removed it: what was wanted.
  }
}

function notWritable(path: string, cause: unknown, remedy: string): unknown {
  if (cause instanceof UsageError) return cause;
  return new UsageError({
    code: "IMAGE_NOT_WRITABLE",
    message: `Cannot write image "${path}": ${cause instanceof Error ? cause.message : String(cause)}`,
    remedy: [remedy, "Name another directory with --images-dir"],
    cause,
  });
}

function writeAll(fd: number, chunks: readonly Buffer[], path: string): void {
  try {
    for (let i = 0; i < chunks.length; ) {
      const part = chunks.slice(i, i + WRITEV_LIMIT);
      const total = part.reduce((sum, c) => sum + c.length, 0);
      const wrote = writevSync(fd, part);
      if (wrote === total) i += part.length;
      else {
        // A short write: go on from the middle in one piece.
        const rest = Buffer.concat(part).subarray(wrote);
        for (let at = 0; at < rest.length; ) at += writevSync(fd, [rest.subarray(at)]);
        i += part.length;
      }
    }
  } catch (cause) {
    throw notWritable(path, cause, "Make room on its file system");
  }
}
