/**
 * The protocol of criu-image-streamer (`--stream`), as CRIU speaks it.
 *
 * A connection to a socket in the images directory: `streamer-capture.sock` for a dump, `streamer-serve.sock` for a restore. For
 * each image a request: u32 length, img_streamer_request_entry with its name. On a dump one byte follows with a descriptor, the
 * reading end of a pipe, into which the image is written. On a restore the other end answers: u32 length,
 * img_streamer_reply_entry; when it has the image, one byte follows with the writing end of a pipe, out of which the image is read.
 * The end of the connection is the end of all.
 */
import { closeSync, existsSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ImageError, UsageError } from "../../errors.js";
import { decode } from "../../images/codec/decode.js";
import { MessageWriter } from "../../images/codec/encode.js";
import { imgStreamerReplyEntry, imgStreamerRequestEntry } from "../../images/streamer.schema.js";
import { O_CLOEXEC } from "../../linux/files.js";
import { pipe2 } from "../../linux/pipes.js";
import { SOCK_CLOEXEC, SOCK_STREAM, connect, sendFds, socket } from "../../linux/sockets.js";
import { readWhole, writeWhole } from "../../linux/streams.js";
import { imagesIn, write } from "./frames.js";

const AF_UNIX = 1;
const BUFFER_BYTES = 1 << 20;
const MOST_REPLY_BYTES = 1 << 16;
/** So long the other end may think about a request. */
const PATIENCE = { timeoutMs: 60_000 };

/** A connection to an image streamer. */
export class Streamer {
  readonly #fd: number;
  readonly #directory: string;
  #isOpen = true;

  /** Connects to the socket in `directory`. */
  constructor(directory: string, use: "capture" | "serve") {
    const name = `streamer-${use}.sock`;
    this.#directory = directory;
    // By way of a descriptor: a path may be longer than an address can be.
    let folder: number | undefined;
    this.#fd = socket({ family: AF_UNIX, type: SOCK_STREAM | SOCK_CLOEXEC, protocol: 0 });
    try {
      folder = openSync(directory, "r");
      connect(this.#fd, { family: "unix", name: Buffer.from(`/proc/self/fd/${folder}/${name}`) });
    } catch (cause) {
      closeSync(this.#fd);
      throw new UsageError({
        code: "STREAMER_UNREACHABLE",
        message: `Cannot reach the image streamer at "${join(directory, name)}": ${cause instanceof Error ? cause.message : String(cause)}`,
        remedy: [`Start criu-image-streamer ${use} for this images directory first`],
        cause,
      });
    } finally {
      if (folder !== undefined) closeSync(folder);
    }
  }

  /** Sends all images of `from`. */
  capture(from: string): void {
    for (const { name, isLink } of imagesIn(from)) {
      if (isLink) continue;
      this.#request(name);
      const { readEnd, writeEnd } = pipe2(O_CLOEXEC);
      try {
        sendFds(this.#fd, [readEnd]);
        closeSync(readEnd);
        copyInto(join(from, name), writeEnd);
      } finally {
        closeSync(writeEnd);
      }
    }
  }

  #request(filename: string): void {
    const writer = new MessageWriter();
    // A record is a u32 with the length, and the message.
    writer.record(imgStreamerRequestEntry, { filename });
    writeWhole(this.#fd, writer.written(), PATIENCE);
  }

  /** Puts image `name` into `folder`, if there is one. */
  fetch(name: string, folder: string): void {
    this.#request(name);
    const head = Buffer.alloc(4);
    if (readWhole(this.#fd, head, PATIENCE) !== 4 || head.readUInt32LE(0) > MOST_REPLY_BYTES)
      throw this.#bad(name, "its answer is cut off");
    const body = Buffer.alloc(head.readUInt32LE(0));
    if (readWhole(this.#fd, body, PATIENCE) !== body.length) throw this.#bad(name, "its answer is cut off");
    const { exists } = decode(imgStreamerReplyEntry, body, { file: "answer of the image streamer", offsetBytes: 0 });
    if (!exists) return;
    const { readEnd, writeEnd } = pipe2(O_CLOEXEC);
    try {
      sendFds(this.#fd, [writeEnd]);
      closeSync(writeEnd);
      const path = join(folder, name);
      if (existsSync(path)) throw new Error(`internal error: ${name} is fetched twice`);
      copyOutOf(readEnd, path);
    } finally {
      closeSync(readEnd);
    }
  }

  #bad(name: string, because: string): ImageError {
    return new ImageError({
      code: "STREAM_BAD",
      place: { file: name },
      because: `the image streamer at "${this.#directory}" does not send it: ${because}`,
      remedy: ["See what the image streamer says"],
    });
  }

  close(): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }
}

function copyInto(path: string, to: number): void {
  const from = openSync(path, "r");
  try {
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    for (let got = readSync(from, buffer); got > 0; got = readSync(from, buffer)) write(to, buffer.subarray(0, got));
  } finally {
    closeSync(from);
  }
}

function copyOutOf(from: number, path: string): void {
  const to = openSync(path, "wx", 0o600);
  try {
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    for (let got = readSync(from, buffer); got > 0; got = readSync(from, buffer)) {
      for (let done = 0; done < got; ) done += writeSync(to, buffer, done, got - done);
    }
  } finally {
    closeSync(to);
  }
}
