/**
 * Writing messages: known fields in the order of their numbers, as other writers of the format do; unknown ones where they
 * were when the message was read.
 */
import { bytesOf } from "../../linux/text.js";
import { type Compiled, type CompiledField, type MessageType, UNKNOWN, type UnknownField, compile, compiledSub } from "./schema.js";

const INITIAL_BYTES = 128;
const TWO_32 = 0x1_0000_0000;
const MIN_INT32 = -0x8000_0000;

type Value = Record<string | symbol, unknown>;

/** The bytes of `value`. */
export function encode<T>(type: MessageType<T>, value: T): Buffer {
  const writer = new MessageWriter();
  writer.message(compile(type as MessageType<unknown>), value as Value);
  return writer.written();
}

/** Writes any number of messages into one run of bytes. */
export class MessageWriter {
  private bytes: Buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  private at = 0;

  /** Adds a record of an image: 32 bits of length, then the message. */
  record<T>(type: MessageType<T>, value: T): void {
    const start = this.at;
    this.reserve(4);
    this.at += 4;
    this.message(compile(type as MessageType<unknown>), value as Value);
    this.bytes.writeUInt32LE(this.at - start - 4, start);
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** What was written so far; valid until more is written. */
  written(): Buffer {
    return this.bytes.subarray(0, this.at);
  }

  private reserve(n: number): void {
    if (this.at + n <= this.bytes.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.at + n));
    this.bytes.copy(bigger, 0, 0, this.at);
    this.bytes = bigger;
  }

  message(type: Compiled, value: Value): void {
    const unknown = value[UNKNOWN] as UnknownField[] | undefined;
    if (unknown !== undefined) this.unknown(unknown, 0);
    for (const field of type.ordered) {
      const v = value[field.name];
      if (v === undefined) {
        if (field.label === "required") throw new Error(`internal error: ${type.name}.${field.name} is not set`);
      } else if (field.repeated) {
        for (const item of v as unknown[]) this.field(field, item, type);
      } else this.field(field, v, type);
      if (unknown !== undefined) this.unknown(unknown, field.number);
    }
  }

  private unknown(fields: readonly UnknownField[], after: number): void {
    for (const field of fields) if (field.after === after) this.raw(field.bytes);
  }

  private field(field: CompiledField, value: unknown, type: Compiled): void {
    this.varint(field.tag);
    switch (field.kind) {
      case "uint32":
      case "fixed32":
      case "int32":
      case "sint32":
      case "enum":
        this.number(field, value as number, type);
        return;
      case "bool":
        this.varint(value === true ? 1 : 0);
        return;
      case "uint64":
      case "int64":
        this.varint64(value as bigint);
        return;
      case "sint64":
        this.varint64(((value as bigint) << 1n) ^ ((value as bigint) >> 63n));
        return;
      case "fixed64":
        this.reserve(8);
        this.at = this.bytes.writeBigUInt64LE(BigInt.asUintN(64, value as bigint), this.at);
        return;
      case "string":
      case "bytes": {
        const bytes = field.kind === "string" ? bytesOf(value as string) : (value as Uint8Array);
        this.varint(bytes.length);
        this.raw(bytes);
        return;
      }
      case "message":
        this.nested(compiledSub(field), value as Value);
        return;
    }
  }

  private number(field: CompiledField, value: number, type: Compiled): void {
    if (!Number.isInteger(value) || value < MIN_INT32 || value >= TWO_32) {
      throw new Error(`internal error: ${type.name}.${field.name} cannot be ${value}: it has 32 bits`);
    }
    if (field.kind === "fixed32") {
      this.reserve(4);
      this.at = this.bytes.writeUInt32LE(value >>> 0, this.at);
    } else if (field.kind === "sint32") this.varint((value << 1) ^ (value >> 31));
    else if (field.kind === "uint32") this.varint(value);
    // A negative 32-bit number takes ten bytes: it is extended to 64 bits.
    else if ((value | 0) < 0) this.words(0xffff_ffff, value >>> 0);
    else this.varint(value);
  }

  private varint(value: number): void {
    if (this.at + 5 > this.bytes.length) this.reserve(5);
    const { bytes } = this;
    let v = value >>> 0;
    while (v >= 0x80) {
      bytes[this.at++] = (v & 0x7f) | 0x80;
      v >>>= 7;
    }
    bytes[this.at++] = v;
  }

  private varint64(value: bigint): void {
    const v = BigInt.asUintN(64, value);
    const low = Number(BigInt.asUintN(32, v));
    this.words(Number(v >> 32n), low);
  }

  private words(high: number, low: number): void {
    if (high === 0) {
      this.varint(low);
      return;
    }
    this.reserve(10);
    const { bytes } = this;
    let at = this.at;
    for (let shift = 0; shift < 28; shift += 7) bytes[at++] = ((low >>> shift) & 0x7f) | 0x80;
    const middle = (low >>> 28) | ((high & 7) << 4);
    let rest = high >>> 3;
    bytes[at++] = rest === 0 ? middle : middle | 0x80;
    while (rest !== 0) {
      const b = rest & 0x7f;
      rest >>>= 7;
      bytes[at++] = rest === 0 ? b : b | 0x80;
    }
    this.at = at;
  }

  /** A message with its length in front; the length is put there afterwards, and rarely needs more than one byte. */
  private nested(type: Compiled, value: Value): void {
    const start = this.at;
    this.reserve(5);
    this.at += 1;
    this.message(type, value);
    const length = this.at - start - 1;
    let header = 1;
    for (let l = length >>> 7; l > 0; l >>>= 7) header++;
    if (header > 1) {
      this.reserve(header);
      this.bytes.copyWithin(start + header, start + 1, this.at);
    }
    this.at = start;
    this.varint(length);
    this.at = start + header + length;
  }
}
