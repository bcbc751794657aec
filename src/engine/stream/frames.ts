/**
 * A dump as one stream of bytes: `floe dump PID -o -` and `floe restore -`.
 *
 *   head     12 bytes "floe-images\0", u32 version
 *   frame    u32 kind, u32 length of the name, the name, u32 CRC-32C of these
 *            kind 1, a file: blocks follow: u32 length (at most 1 MiB), u32 CRC-32C, bytes; one of length 0 is the last
 *            kind 2, the images before are needed: the name is that of their directory where the dump was made
 *            kind 3, the end: the name is u32 files, u64 bytes of all of them
 *
 * All numbers are little endian. Nothing is used before the end has come and the counts are right.
 */
import { closeSync, openSync, readSync, readdirSync, readlinkSync, symlinkSync, writeSync } from "node:fs";
import { join, resolve } from "node:path";
import { ImageError, UsageError } from "../../errors.js";
import { PARENT_LINK } from "../../images/kinds.js";
import { checksum } from "../../images/store/format.js";
import { POLLIN, POLLOUT, waitFor } from "../../linux/streams.js";

const HEAD = Buffer.from("floe-images\0\u0001\0\0\0", "latin1");
const FILE = 1;
const PARENT = 2;
const END = 3;
const END_BYTES = 12;
const BLOCK_BYTES = 1 << 20;
const MOST_NAME_BYTES = 4096;
const MOST_FILES = 1 << 24;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$/;

/** Sends all images of a directory. */
export function sendImages(directory: string, fd: number): void {
  write(fd, HEAD);
  let files = 0;
  let bytes = 0n;
  for (const { name, isLink } of imagesIn(directory)) {
    if (isLink) {
      writeFrame(fd, PARENT, Buffer.from(resolve(directory, readlinkSync(join(directory, name)))));
      continue;
    }
    writeFrame(fd, FILE, Buffer.from(name));
    bytes += sendFile(join(directory, name), fd);
    files++;
  }
  const end = Buffer.alloc(END_BYTES);
  end.writeUInt32LE(files, 0);
  end.writeBigUInt64LE(bytes, 4);
  writeFrame(fd, END, end);
}

/** Images of a directory, the inventory last. */
export function imagesIn(directory: string): { readonly name: string; readonly isLink: boolean }[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => (entry.isFile() && entry.name.endsWith(".img")) || entry.name === PARENT_LINK)
    .map((entry) => ({ name: entry.name, isLink: entry.isSymbolicLink() }))
    .sort((a, b) => Number(a.name === "inventory.img") - Number(b.name === "inventory.img"));
}

function sendFile(path: string, to: number): bigint {
  const from = openSync(path, "r");
  try {
    const buffer = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    let sent = 0n;
    for (;;) {
      const got = readSync(from, buffer);
      const block = buffer.subarray(0, got);
      const head = Buffer.alloc(8);
      head.writeUInt32LE(got, 0);
      head.writeUInt32LE(checksum(block), 4);
      write(to, head);
      if (got === 0) return sent;
      write(to, block);
      sent += BigInt(got);
    }
  } finally {
    closeSync(from);
  }
}

function writeFrame(fd: number, kind: number, name: Buffer): void {
  const frame = Buffer.alloc(8 + name.length + 4);
  frame.writeUInt32LE(kind, 0);
  frame.writeUInt32LE(name.length, 4);
  name.copy(frame, 8);
  frame.writeUInt32LE(checksum(frame.subarray(0, -4)), frame.length - 4);
  write(fd, frame);
}

/** Writes all bytes; whoever reads may take as long as they like. */
export function write(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done, bytes.length - done);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === "EAGAIN") {
        waitFor({ fd, events: POLLOUT }, { timeoutMs: -1 });
        continue;
      }
      throw new UsageError({
        code: "STREAM_NOT_WRITABLE",
        message: `Cannot send the images: ${cause instanceof Error ? cause.message : String(cause)}`,
        remedy: ["See that whoever reads them (floe restore -) goes on reading until the end"],
        cause,
      });
    }
  }
}

/** Receives images into an empty directory. `previous`: where the images before are here. */
export function receiveImages(fd: number, directory: string, previous: string | undefined): void {
  const input = new Input(fd);
  if (!input.take(HEAD.length).equals(HEAD)) throw input.bad("it does not begin like a stream of images, or is of another version");
  let files = 0;
  let bytes = 0n;
  for (;;) {
    const { kind, name } = input.frame();
    if (kind === END) {
      if (name.length !== END_BYTES || name.readUInt32LE(0) !== files || name.readBigUInt64LE(4) !== bytes)
        throw input.bad(`${files} files with ${bytes} bytes have come, and that is not what was sent`);
      return;
    }
    if (kind === PARENT) linkPrevious(directory, previous, name.toString());
    else if (kind === FILE && NAME.test(name.toString("latin1")) && ++files <= MOST_FILES) {
      bytes += receiveFile(input, join(directory, name.toString("latin1")));
    } else throw input.bad(`frame ${kind} with the name ${JSON.stringify(name.toString("latin1").slice(0, 80))} is not known`);
  }
}

function linkPrevious(directory: string, previous: string | undefined, there: string): void {
  if (previous === undefined) {
    throw new UsageError({
      code: "PREV_IMAGES_UNUSABLE",
      message: `Cannot restore: the stream is the difference to other images ("${there}", where it was made)`,
      remedy: ["Name a copy of them with --prev-images-dir"],
    });
  }
  symlinkSync(resolve(previous), join(directory, PARENT_LINK));
}

function receiveFile(input: Input, path: string): bigint {
  let file: number;
  try {
    file = openSync(path, "wx", 0o600);
  } catch (cause) {
    throw input.bad(`a file comes twice, or cannot be kept: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  try {
    let got = 0n;
    for (;;) {
      const head = Buffer.from(input.take(8));
      const length = head.readUInt32LE(0);
      if (length > BLOCK_BYTES) throw input.bad(`a block of ${length} bytes is announced`);
      const block = input.take(length);
      if (checksum(block) !== head.readUInt32LE(4)) throw input.bad("the checksum of a block is wrong");
      if (length === 0) return got;
      for (let done = 0; done < length; ) done += writeSync(file, block, done);
      got += BigInt(length);
    }
  } finally {
    closeSync(file);
  }
}

/** A stream that is read from its beginning. */
class Input {
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  #offset = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The next bytes; valid until the next call. */
  take(length: number): Buffer {
    for (let done = 0; done < length; ) {
      let got: number;
      try {
        got = readSync(this.#fd, this.#buffer, done, length - done, null);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code === "EAGAIN") {
          waitFor({ fd: this.#fd, events: POLLIN }, { timeoutMs: -1 });
          continue;
        }
        throw this.bad(cause instanceof Error ? cause.message : String(cause));
      }
      if (got === 0) throw this.bad("it ends too early");
      done += got;
    }
    this.#offset += length;
    return this.#buffer.subarray(0, length);
  }

  frame(): { readonly kind: number; readonly name: Buffer } {
    const head = Buffer.from(this.take(8));
    const [kind, length] = [head.readUInt32LE(0), head.readUInt32LE(4)];
    if (length > MOST_NAME_BYTES) throw this.bad(`a name of ${length} bytes is announced`);
    const rest = Buffer.from(this.take(length + 4));
    const name = rest.subarray(0, length);
    if (checksum(Buffer.concat([head, name])) !== rest.readUInt32LE(length)) throw this.bad("the checksum of a frame is wrong");
    return { kind, name };
  }

  bad(because: string): ImageError {
    return new ImageError({
      code: "STREAM_BAD",
      place: { file: "the stream of images", offsetBytes: this.#offset },
      because,
      remedy: ["Send the whole of what floe dump -o - writes, and nothing else", "Dump the process again"],
    });
  }
}
