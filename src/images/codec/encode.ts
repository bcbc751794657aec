/**
 * Writing messages: known fields in the order of their numbers, unknown ones merged in, as other writers of the format do.
 */
import { type CompiledField, type MessageType, UNKNOWN, type UnknownField, compile } from "./schema.js";

const TAG_VARINT = 0;
const TAG_FIXED64 = 1;
const TAG_BYTES = 2;
const TAG_FIXED32 = 5;
const INITIAL_BYTES = 256;

class Writer {
  bytes: Buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  at = 0;

  reserve(n: number): void {
    if (this.at + n <= this.bytes.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.at + n));
    this.bytes.copy(bigger, 0, 0, this.at);
    this.bytes = bigger;
  }

  varint(value: number): void {
    this.reserve(5);
    let v = value >>> 0;
    while (v >= 0x80) {
      this.bytes[this.at++] = (v & 0x7f) | 0x80;
      v >>>= 7;
    }
    this.bytes[this.at++] = v;
  }

  varint64(value: bigint): void {
    let v = BigInt.asUintN(64, value);
    if (v <= 0xffffffffn) {
      this.varint(Number(v));
      return;
    }
    this.reserve(10);
    while (v >= 0x80n) {
      this.bytes[this.at++] = Number(v & 0x7fn) | 0x80;
      v >>= 7n;
    }
    this.bytes[this.at++] = Number(v);
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** Length-delimited content that `write` appends; its length is put in front. */
  nested(write: () => void): void {
    const start = this.at;
    this.reserve(5);
    this.at += 1;
    write();
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

/** The bytes of `value`. */
export function encode<T>(type: MessageType<T>, value: T): Buffer {
  const writer = new Writer();
  writeMessage(writer, type as MessageType<unknown>, value as Record<string | symbol, unknown>);
  return writer.bytes.subarray(0, writer.at);
}

function writeMessage(writer: Writer, type: MessageType<unknown>, value: Record<string | symbol, unknown>): void {
  const { ordered } = compile(type);
  const unknown = value[UNKNOWN] as UnknownField[] | undefined;
  let pending = 0;
  const sorted = unknown === undefined ? undefined : [...unknown].sort((a, b) => a.number - b.number);
  for (const field of ordered) {
    while (sorted !== undefined && pending < sorted.length && (sorted[pending]?.number ?? 0) < field.number) {
      writer.raw(sorted[pending++]?.bytes ?? Buffer.alloc(0));
    }
    const v = value[field.name];
    if (v === undefined) {
      if (field.label === "required") throw new Error(`internal error: ${type.name}.${field.name} is not set`);
      continue;
    }
    if (field.label === "repeated") for (const item of v as unknown[]) writeField(writer, field, item);
    else writeField(writer, field, v);
  }
  if (sorted !== undefined) for (; pending < sorted.length; pending++) writer.raw(sorted[pending]?.bytes ?? Buffer.alloc(0));
}

function writeField(writer: Writer, field: CompiledField, value: unknown): void {
  switch (field.kind) {
    case "uint32":
      writer.varint((field.number << 3) | TAG_VARINT);
      writer.varint(value as number);
      return;
    case "int32":
    case "enum":
      writer.varint((field.number << 3) | TAG_VARINT);
      // A negative 32-bit number takes ten bytes: it is extended to 64 bits.
      if ((value as number) < 0) writer.varint64(BigInt(value as number));
      else writer.varint(value as number);
      return;
    case "bool":
      writer.varint((field.number << 3) | TAG_VARINT);
      writer.varint(value === true ? 1 : 0);
      return;
    case "sint32":
      writer.varint((field.number << 3) | TAG_VARINT);
      writer.varint(((value as number) << 1) ^ ((value as number) >> 31));
      return;
    case "uint64":
    case "int64":
      writer.varint((field.number << 3) | TAG_VARINT);
      writer.varint64(value as bigint);
      return;
    case "sint64":
      writer.varint((field.number << 3) | TAG_VARINT);
      writer.varint64(((value as bigint) << 1n) ^ ((value as bigint) >> 63n));
      return;
    case "fixed32":
      writer.varint((field.number << 3) | TAG_FIXED32);
      writer.reserve(4);
      writer.at = writer.bytes.writeUInt32LE((value as number) >>> 0, writer.at);
      return;
    case "fixed64":
      writer.varint((field.number << 3) | TAG_FIXED64);
      writer.reserve(8);
      writer.at = writer.bytes.writeBigUInt64LE(BigInt.asUintN(64, value as bigint), writer.at);
      return;
    case "string":
    case "bytes": {
      const bytes = field.kind === "string" ? Buffer.from(value as string, "utf8") : (value as Uint8Array);
      writer.varint((field.number << 3) | TAG_BYTES);
      writer.varint(bytes.length);
      writer.raw(bytes);
      return;
    }
    case "message": {
      const type = field.message?.();
      if (type === undefined) throw new Error(`internal error: ${field.name} has no message type`);
      writer.varint((field.number << 3) | TAG_BYTES);
      writer.nested(() => writeMessage(writer, type, value as Record<string, unknown>));
      return;
    }
  }
}
