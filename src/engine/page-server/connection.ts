/**
 * A connection over which pages go: messages and bytes, with limits on what is accepted and how long is waited.
 */
import { UsageError } from "../../errors.js";
import { Conduit, type Patience, POLLIN, poll, readWhole, sendFile, waitFor, writeWhole } from "../../linux/streams.js";
import { close } from "../../linux/files.js";
import { KernelError } from "../../errors.js";
import { SILENCE_MS } from "./options.js";
import {
  COMMAND,
  LONG_BYTES,
  type MessageForm,
  type PageMessage,
  SHORT_BYTES,
  decodeMessage,
  encodeDestination,
  encodeMessage,
  formOf,
} from "./wire.js";

export const PAGE_BYTES = 4096n;
/** As much memory as a processor can address is more than anybody has. */
const MAX_PAGES = 1n << 36n;
const MAX_ADDRESS = 1n << 63n;
/** So long an old server may take to answer before a newer one is assumed, which waits for more bytes. */
const FORM_PATIENCE_MS = 4000;
/** A moment in which the rest of a message of a doubtful form would have come. */
const REST_MS = 200;

export class PageConnection {
  readonly fd: number;
  /** The other end, for messages. */
  readonly name: string;
  readonly #patience: Patience;
  #form: MessageForm | undefined;
  #conduit: Conduit | undefined;

  constructor(fd: number, name: string, patience: Patience = { timeoutMs: SILENCE_MS }) {
    this.fd = fd;
    this.name = name;
    this.#patience = patience;
  }

  /** The next message; undefined at the end of the stream. `patience`: how long it may take to begin. */
  receive(patience: Patience = this.#patience): PageMessage | undefined {
    this.#guard(() => waitFor({ fd: this.fd, events: POLLIN }, patience));
    const bytes = this.#readHead();
    if (bytes === undefined) return undefined;
    const message = decodeMessage(bytes);
    const { pages, vaddr } = message;
    if (vaddr % PAGE_BYTES !== 0n || pages > MAX_PAGES || vaddr + pages * PAGE_BYTES > MAX_ADDRESS)
      throw this.bad(`a message speaks of ${pages} pages at 0x${vaddr.toString(16)}`);
    return message;
  }

  #readHead(): Buffer | undefined {
    const bytes = Buffer.alloc(LONG_BYTES);
    const first = bytes.subarray(0, this.#form ?? SHORT_BYTES);
    const got = this.#guard(() => readWhole(this.fd, first, this.#patience));
    if (got === 0) return undefined;
    if (got < first.length) throw this.lost("in the middle of a message");
    this.#form ??= formOf(first) ?? this.#hasMore();
    if (this.#form === SHORT_BYTES || first.length === LONG_BYTES) return bytes.subarray(0, this.#form);
    this.read(bytes.subarray(SHORT_BYTES));
    return bytes;
  }

  #hasMore(): MessageForm {
    const [events = 0] = poll([{ fd: this.fd, events: POLLIN }], REST_MS);
    return (events & POLLIN) === 0 ? SHORT_BYTES : LONG_BYTES;
  }

  send(message: Partial<PageMessage> & { readonly command: number }): void {
    this.#guard(() => writeWhole(this.fd, encodeMessage(message, this.#form ?? SHORT_BYTES), this.#patience));
  }

  /**
   * Finds out which form the server takes: asks something harmless in the short form. Who waits for the long one does not
   * answer; eight more bytes then make the question one of the long form.
   */
  greet(of: { readonly kind: "PAGEMAP" | "SHMEM_PAGEMAP"; readonly id: bigint }): boolean {
    const dst = encodeDestination(of);
    this.#form = SHORT_BYTES;
    this.send({ command: COMMAND.PARENT, dst });
    const answer = Buffer.alloc(4);
    const [events = 0] = poll([{ fd: this.fd, events: POLLIN }], FORM_PATIENCE_MS);
    if (events === 0) {
      this.#form = LONG_BYTES;
      const rest = Buffer.alloc(8);
      rest.writeBigUInt64LE(dst);
      this.#guard(() => writeWhole(this.fd, rest, this.#patience));
    }
    this.read(answer);
    return answer.readInt32LE(0) !== 0;
  }

  /** Reads all of `into`; the stream must not end before. `patience`: how long each part of it may take. */
  read(into: Uint8Array, patience: Patience = this.#patience): void {
    const got = this.#guard(() => readWhole(this.fd, into, patience));
    if (got < into.length) throw this.lost("before everything had come");
  }

  write(bytes: Uint8Array): void {
    this.#guard(() => writeWhole(this.fd, bytes, this.#patience));
  }

  /** Sends bytes of a file as they are. */
  sendFile(from: { fd: number; offset: bigint; bytes: bigint }): void {
    this.#guard(() => sendFile(this.fd, from, this.#patience));
  }

  /** Puts the next bytes of the stream into a file. */
  receiveInto(to: { fd: number; offset: bigint; bytes: bigint }): void {
    this.#conduit ??= new Conduit();
    const conduit = this.#conduit;
    const got = this.#guard(() => conduit.receive(this.fd, to, this.#patience));
    if (got < to.bytes) throw this.lost("in the middle of pages");
  }

  /** Anything that fails here is the connection's end. */
  run<T>(work: (patience: Patience) => T): T {
    return this.#guard(() => work(this.#patience));
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      if (cause instanceof KernelError && isOfConnection(cause)) throw this.lost(cause.message, cause);
      throw cause;
    }
  }

  bad(because: string): UsageError {
    return new UsageError({
      code: "PAGE_STREAM_BAD",
      message: `Cannot go on with the pages of ${this.name}: ${because}`,
      remedy: ["Use matching tools on both ends", "Look whether something else talks to this port"],
    });
  }

  lost(when: string, cause?: unknown): UsageError {
    return new UsageError({
      code: "PAGE_PEER_LOST",
      message: `Lost the connection to ${this.name}: ${when}`,
      remedy: ["Look at the log of the other end", "Start both ends again"],
      cause,
    });
  }

  close(): void {
    this.#conduit?.close();
    this.#conduit = undefined;
    close(this.fd);
  }
}

const EPIPE = 32;
const ECONNRESET = 104;
const ETIMEDOUT = 110;
const ENOTCONN = 107;

function isOfConnection({ errno, call }: KernelError): boolean {
  if (errno === EPIPE || errno === ECONNRESET || errno === ENOTCONN) return true;
  return errno === ETIMEDOUT && (call.startsWith("poll") || call.startsWith("send") || call.startsWith("read"));
}
