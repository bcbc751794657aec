/**
 * Images that go over a stream: they are gathered, or received, in a directory that nobody else sees and that is gone with us.
 */
import { closeSync } from "node:fs";
import { DirectorySink, type SinkOptions } from "../../images/sink.js";
import { DirectorySource } from "../../images/source.js";
import { privateTmpfs } from "../../linux/private-tmpfs.js";
import { receiveImages, sendImages } from "./frames.js";
import { Streamer } from "./streamer.js";

/** Over what images come or go, instead of into the images directory. */
export type StreamChoice =
  /** A stream of Floe's own. */
  | { readonly kind: "frames"; readonly fd: number }
  /** criu-image-streamer, at its socket in the images directory. */
  | { readonly kind: "streamer" };

/** A directory in memory. */
class PrivateFolder {
  readonly #root = privateTmpfs();
  #isOpen = true;

  get path(): string {
    return `/proc/self/fd/${this.#root}`;
  }

  close(): void {
    if (this.#isOpen) closeSync(this.#root);
    this.#isOpen = false;
  }
}

/** Gathers images, and sends them when they are complete. */
export class StreamSink extends DirectorySink {
  readonly #folder: PrivateFolder;
  readonly #send: (directory: string) => void;
  readonly #end: () => void;
  #isOpen = true;

  /** A streamer is connected to at once, before anything is touched. */
  static open(choice: StreamChoice, imagesDir: string, options: SinkOptions): StreamSink {
    const streamer = choice.kind === "streamer" ? new Streamer(imagesDir, "capture") : undefined;
    const send = (directory: string) => {
      if (streamer !== undefined) streamer.capture(directory);
      else if (choice.kind === "frames") sendImages(directory, choice.fd);
    };
    const folder = new PrivateFolder();
    return new StreamSink(folder, options, { send, end: () => streamer?.close() });
  }

  private constructor(folder: PrivateFolder, options: SinkOptions, to: { send: (directory: string) => void; end: () => void }) {
    super(folder.path, options);
    this.#folder = folder;
    this.#send = to.send;
    this.#end = to.end;
  }

  override finish(durable = false): void {
    super.finish(durable);
    this.#send(this.directory);
    this.#close();
  }

  override discard(): void {
    if (this.#isOpen) super.discard();
    this.#close();
  }

  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#end();
    this.#folder.close();
  }
}

/** Images to restore: all of them, from a stream; or one by one, as they are asked for, from a streamer. */
export function openStream(choice: StreamChoice, from: { imagesDir: string; prevImagesDir?: string | undefined }): DirectorySource {
  const folder = new PrivateFolder();
  let streamer: Streamer | undefined;
  try {
    if (choice.kind === "frames") receiveImages(choice.fd, folder.path, from.prevImagesDir);
    else streamer = new Streamer(from.imagesDir, "serve");
    const end = () => {
      streamer?.close();
      folder.close();
    };
    const fetch = streamer === undefined ? undefined : (name: string) => streamer?.fetch(name, folder.path);
    return new DirectorySource(folder.path, new Set(), { end, fetch });
  } catch (error) {
    streamer?.close();
    folder.close();
    throw error;
  }
}
