/**
 * Cuts an outgoing stream where its messages begin and end, so that each message, and the bytes behind it, has TLS records of its
 * own: CRIU reads by records, and waits for ever when one holds the end of something and the beginning of something else.
 */
import { PAGE_RUN } from "../../resources/memory/page-source.js";
import { COMMAND, type MessageForm, SHORT_BYTES, decodeMessage, formOf } from "./wire.js";

const PAGE_BYTES = 4096;
/** The most that a TLS record holds. */
const RECORD_BYTES = 16_384;

/** Of a stream of one who asks. */
export class RecordCutter {
  #form: MessageForm | undefined;
  /** The beginning of a message, or of a record of pages, that is not whole yet. */
  #head: Buffer = Buffer.alloc(0);
  /** Bytes of pages that are still to come. */
  #data = 0;
  /** What comes is no stream of messages: it is not cut any more. */
  #isOther = false;

  /** The pieces of the next bytes. */
  cut(bytes: Buffer): Buffer[] {
    const pieces: Buffer[] = [];
    let rest = bytes;
    while (rest.length > 0) {
      if (this.#isOther) return [...pieces, rest];
      if (this.#data > 0) {
        rest = this.#takeData(rest, pieces);
        continue;
      }
      const whole = Buffer.concat([this.#head, rest]);
      if (whole.length >= SHORT_BYTES) this.#form ??= formOf(whole.subarray(0, SHORT_BYTES)) ?? SHORT_BYTES;
      const length = this.#form ?? SHORT_BYTES;
      if (whole.length < length) {
        this.#head = whole;
        return pieces;
      }
      this.#head = Buffer.alloc(0);
      const head = whole.subarray(0, length);
      rest = whole.subarray(head.length);
      pieces.push(head);
      this.#follow(head);
    }
    return pieces;
  }

  /** Bytes of pages make full records, but for the last. */
  #takeData(bytes: Buffer, pieces: Buffer[]): Buffer {
    const whole = Math.min(this.#data, RECORD_BYTES);
    const all = this.#head.length === 0 ? bytes : Buffer.concat([this.#head, bytes]);
    if (all.length < whole) {
      this.#head = all;
      return Buffer.alloc(0);
    }
    this.#head = Buffer.alloc(0);
    this.#data -= whole;
    pieces.push(all.subarray(0, whole));
    return all.subarray(whole);
  }

  #follow(head: Buffer): void {
    const { command, flags, pages } = decodeMessage(head);
    const isKnown = Object.values<number>(COMMAND).includes(command);
    if (!isKnown) this.#isOther = true;
    const hasData = command === COMMAND.ADD || (command === COMMAND.ADD_F && (flags & PAGE_RUN.PRESENT) !== 0);
    if (hasData) this.#data = Number(pages) * PAGE_BYTES;
  }
}
