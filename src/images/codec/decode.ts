/**
 * Reading messages. Bytes come from images that nobody vouches for: every length is checked, nesting and the number of
 * values have limits, and an error says file, byte offset, message and field.
 */
import { ImageError } from "../../errors.js";
import { textOf } from "../../linux/text.js";
import { CODE, type Compiled, type CompiledField, type MessageType, UNKNOWN, type UnknownField, compile, compiledSub } from "./schema.js";

const MAX_DEPTH = 64;
/** Values in one message, those in its messages included; the largest real ones have some hundred thousand. */
const MAX_VALUES = 1 << 24;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const TWO_32 = 0x1_0000_0000;
/** High words below this make numbers that JavaScript's own numbers hold exactly. */
const SAFE_HIGH = 1 << 21;

/** Numbers of one byte, to be had without making them. */
const SMALL: readonly bigint[] = Array.from({ length: 0x80 }, (_, i) => BigInt(i));

/** Where the bytes come from, for messages. */
export interface DecodePlace {
  readonly file: string;
  /** Offset of the first byte of the message in the file. */
  readonly offsetBytes: number;
}

type Value = Record<string | symbol, unknown>;

/**
 * Messages in fields that are declared to be often alike, as they were read last. What comes again byte for byte is not read once more, but
 * is the same object: of a thousand threads most have the same vector registers and credentials. For readers that change nothing.
 */
export class Alike {
  readonly #last = new Map<CompiledField, { readonly bytes: Buffer; readonly value: unknown }>();

  find(field: CompiledField, within: Buffer, range: { readonly at: number; readonly stop: number }): unknown {
    const last = this.#last.get(field);
    if (last === undefined || last.bytes.length !== range.stop - range.at) return undefined;
    return within.compare(last.bytes, 0, last.bytes.length, range.at, range.stop) === 0 ? last.value : undefined;
  }

  /** `bytes` must not be changed any more. */
  keep(field: CompiledField, bytes: Buffer, value: unknown): void {
    this.#last.set(field, { bytes, value });
  }
}

/** Reads a message of `type` from all of `bytes`; throws an {@link ImageError} when it is not one. */
export function decode<T>(type: MessageType<T>, bytes: Uint8Array, place: DecodePlace & { readonly alike?: Alike }): T {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new Reader(buffer, place).message(compile(type as MessageType<unknown>), buffer.length, 0) as T;
}

class Reader {
  readonly bytes: Buffer;
  readonly place: DecodePlace & { readonly alike?: Alike };
  at = 0;
  values = 0;
  /** The words of the varint read last. */
  low = 0;
  high = 0;

  constructor(bytes: Buffer, place: DecodePlace & { readonly alike?: Alike }) {
    this.bytes = bytes;
    this.place = place;
  }

  message(type: Compiled, end: number, depth: number): Value {
    if (depth > MAX_DEPTH) throw this.fail(`messages are nested deeper than ${MAX_DEPTH}`, type);
    const out: Value = {};
    for (const name of type.repeatedNames) out[name] = [];
    const { bytes } = this;
    let last = 0;
    while (this.at < end) {
      const start = this.at;
      let tag = bytes[start] as number;
      if (tag < 0x80) this.at = start + 1;
      else if (this.varint(end) && this.high === 0) tag = this.low;
      else throw this.fail("a field has an impossible tag", type);
      const field = type.byNumber[tag >>> 3];
      if (field === undefined) {
        out[UNKNOWN] ??= [];
        (out[UNKNOWN] as UnknownField[]).push(this.unknown(tag, { start, end, after: last, type }));
        continue;
      }
      if (++this.values > MAX_VALUES) throw this.fail(`it holds more than ${MAX_VALUES} values`, type, field);
      last = field.number;
      if (tag !== field.tag) this.packed(tag & 7, out, { field, end, type });
      else if (field.repeated) {
        const list = out[field.name] as unknown[];
        list.push(this.value(field, end, type, depth));
        if (tag < 0x80 && (field.code === CODE.uint32 || field.code === CODE.uint64)) this.small(list, field, end);
      } else out[field.name] = this.value(field, end, type, depth);
    }
    for (const name of type.requiredNames) {
      if (out[name] === undefined) throw this.fail("a required field is missing", type, { name });
    }
    return out;
  }

  /**
   * Further values of the same repeated field, as long as tag and value are of one byte: vector registers are hundreds of numbers of which nearly
   * all are 0, in every thread.
   */
  small(list: unknown[], { tag, code }: CompiledField, end: number): void {
    const { bytes } = this;
    const isBig = code === CODE.uint64;
    const from = this.at;
    let at = from;
    // One that would be too many is refused where every value is counted.
    const stop = Math.min(end, from + 2 * (MAX_VALUES - this.values));
    while (at + 1 < stop && bytes[at] === tag) {
      const value = bytes[at + 1] as number;
      if (value >= 0x80) break;
      list.push(isBig ? SMALL[value] : value);
      at += 2;
    }
    this.at = at;
    this.values += (at - from) / 2;
  }

  /** Numbers of a repeated field may come packed into one run of bytes. */
  packed(wire: number, out: Value, { field, end, type }: { field: CompiledField; end: number; type: Compiled }): void {
    if (wire !== BYTES || !field.repeated || field.wire === BYTES) {
      throw this.fail(`the field has wire type ${wire}, not ${field.wire}`, type, field);
    }
    const stop = this.length(field, end, type);
    const list = out[field.name] as unknown[];
    while (this.at < stop) {
      if (++this.values > MAX_VALUES) throw this.fail(`it holds more than ${MAX_VALUES} values`, type, field);
      list.push(this.value(field, stop, type, 0));
    }
  }

  value(field: CompiledField, end: number, type: Compiled, depth: number): unknown {
    if (field.wire === VARINT && !this.varint(end)) throw this.fail("a number is cut off or too long", type, field);
    switch (field.code) {
      case CODE.uint32:
        return this.low;
      case CODE.int32: // and enum
        return this.low | 0;
      case CODE.sint32:
        return (this.low >>> 1) ^ -(this.low & 1);
      case CODE.bool:
        return this.low !== 0 || this.high !== 0;
      case CODE.uint64:
        return join(this.high, this.low);
      case CODE.int64:
        return BigInt.asIntN(64, join(this.high, this.low));
      case CODE.sint64: {
        const zigzag = join(this.high, this.low);
        return (zigzag >> 1n) ^ -(zigzag & 1n);
      }
      case CODE.fixed32:
      case CODE.fixed64: {
        const size = field.code === CODE.fixed32 ? 4 : 8;
        if (this.at + size > end) throw this.fail("a number is cut off", type, field);
        this.at += size;
        return size === 4 ? this.bytes.readUInt32LE(this.at - 4) : this.bytes.readBigUInt64LE(this.at - 8);
      }
      case CODE.message:
        return this.sub(field, this.length(field, end, type), depth + 1);
      default: {
        const stop = this.length(field, end, type);
        const bytes = this.bytes.subarray(this.at, stop);
        this.at = stop;
        return field.code === CODE.string ? textOf(bytes) : Buffer.from(bytes);
      }
    }
  }

  /** The message in a field, which ends at `stop`. */
  sub(field: CompiledField, stop: number, depth: number): unknown {
    const { alike } = this.place;
    if (alike === undefined || field.options.alike !== true) return this.message(compiledSub(field), stop, depth);
    const { at } = this;
    const known = alike.find(field, this.bytes, { at, stop });
    if (known !== undefined) {
      this.at = stop;
      return known;
    }
    const value = this.message(compiledSub(field), stop, depth);
    alike.keep(field, this.bytes.subarray(at, stop), value);
    return value;
  }

  /** End of the content whose length comes next. */
  length(field: { name: string } | undefined, end: number, type: Compiled): number {
    if (!this.varint(end)) throw this.fail("a length is cut off or too long", type, field);
    const length = this.high * TWO_32 + this.low;
    if (length > end - this.at) throw this.fail(`${length} bytes are announced, ${end - this.at} are left`, type, field);
    return this.at + length;
  }

  /** Reads a varint into `low` and `high`; false if it reaches beyond `end` or has more than ten bytes. */
  varint(end: number): boolean {
    const { bytes } = this;
    let at = this.at;
    const first = bytes[at] as number;
    if (at < end && first < 0x80) {
      // Most are: tags, lengths, small numbers.
      this.at = at + 1;
      this.low = first;
      this.high = 0;
      return true;
    }
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70 && at < end; shift += 7) {
      const b = bytes[at++] as number;
      if (shift < 28) low |= (b & 0x7f) << shift;
      else if (shift === 28) {
        low |= (b & 0x0f) << 28;
        high = (b & 0x7f) >>> 4;
      } else high |= (b & 0x7f) << (shift - 32);
      if (b < 0x80) {
        this.at = at;
        this.low = low >>> 0;
        this.high = high >>> 0;
        return true;
      }
    }
    return false;
  }

  unknown(tag: number, { start, end, after, type }: { start: number; end: number; after: number; type: Compiled }): UnknownField {
    const number = tag >>> 3;
    const wire = tag & 7;
    if (number === 0) throw this.fail("a field has an impossible tag", type);
    if (wire === VARINT) {
      if (!this.varint(end)) throw this.fail(`unknown field ${number} is cut off`, type);
    } else if (wire === BYTES) this.at = this.length(undefined, end, type);
    else if (wire === FIXED64 || wire === FIXED32) this.at += wire === FIXED64 ? 8 : 4;
    else throw this.fail(`unknown field ${number} has wire type ${wire}`, type);
    if (this.at > end) {
      this.at = start;
      throw this.fail(`unknown field ${number} is cut off`, type);
    }
    return { number, after, bytes: Buffer.from(this.bytes.subarray(start, this.at)) };
  }

  fail(because: string, message: { name: string }, field?: { name: string }): ImageError {
    return new ImageError({
      code: "IMAGE_BAD_MESSAGE",
      place: {
        file: this.place.file,
        offsetBytes: this.place.offsetBytes + this.at,
        message: message.name,
        ...(field === undefined ? {} : { field: field.name }),
      },
      because,
      remedy: ["Use an intact copy of the image"],
    });
  }
}

function join(high: number, low: number): bigint {
  if (high === 0 && low < SMALL.length) return SMALL[low] as bigint;
  if (high < SAFE_HIGH) return BigInt(high * TWO_32 + low);
  return (BigInt(high) << 32n) | BigInt(low);
}
