/**
 * Reading messages. Bytes come from images that nobody vouches for: every length is checked, nesting has a limit, and an
 * error says file, byte offset, message and field.
 */
import { ImageError } from "../../errors.js";
import { type CompiledField, type MessageType, UNKNOWN, type UnknownField, compile } from "./schema.js";

const MAX_DEPTH = 64;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Where the bytes come from, for messages. */
export interface DecodePlace {
  readonly file: string;
  /** Offset of the first byte of the message in the file. */
  readonly offsetBytes: number;
}

class Reader {
  readonly bytes: Buffer;
  readonly place: DecodePlace;
  at: number;

  constructor(bytes: Buffer, place: DecodePlace) {
    this.bytes = bytes;
    this.place = place;
    this.at = 0;
  }

  fail(because: string, message: string, field?: string): ImageError {
    return new ImageError({
      code: "IMAGE_BAD_MESSAGE",
      place: {
        file: this.place.file,
        offsetBytes: this.place.offsetBytes + this.at,
        message,
        ...(field === undefined ? {} : { field }),
      },
      because,
      remedy: ["Use an intact copy of the image"],
    });
  }

  /** A varint below 2^53 as number; larger ones (or negative 32-bit values) lose their upper bits on purpose. */
  varint32(): number {
    const { bytes } = this;
    let b = bytes[this.at] as number;
    if (b < 0x80) {
      this.at++;
      return b;
    }
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      b = bytes[this.at++] as number;
      if (b === undefined) return Number.NaN;
      if (shift < 32) value |= (b & 0x7f) << shift;
      if (b < 0x80) return value >>> 0;
    }
    return Number.NaN;
  }

  varint64(): bigint | undefined {
    const { bytes } = this;
    let low = 0;
    let b = 0;
    let shift = 0;
    for (; shift < 28; shift += 7) {
      b = bytes[this.at++] as number;
      if (b === undefined) return undefined;
      low |= (b & 0x7f) << shift;
      if (b < 0x80) return BigInt(low >>> 0);
    }
    let value = BigInt(low >>> 0);
    for (; shift < 70; shift += 7) {
      b = bytes[this.at++] as number;
      if (b === undefined) return undefined;
      value |= BigInt(b & 0x7f) << BigInt(shift);
      if (b < 0x80) return BigInt.asUintN(64, value);
    }
    return undefined;
  }
}

/** Reads a message of `type` from all of `bytes`; throws an {@link ImageError} when it is not one. */
export function decode<T>(type: MessageType<T>, bytes: Uint8Array, place: DecodePlace): T {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reader = new Reader(buffer, place);
  return readMessage(reader, type as MessageType<unknown>, { end: buffer.length, depth: 0 }) as T;
}

function readMessage(reader: Reader, type: MessageType<unknown>, limits: { end: number; depth: number }): object {
  const { byNumber, repeatedNames, requiredFields } = compile(type);
  if (limits.depth > MAX_DEPTH) throw reader.fail(`messages are nested deeper than ${MAX_DEPTH}`, type.name);
  const out: Record<string | symbol, unknown> = {};
  for (const name of repeatedNames) out[name] = [];
  while (reader.at < limits.end) {
    const start = reader.at;
    const tag = reader.varint32();
    const number = tag >>> 3;
    if (Number.isNaN(tag) || number === 0) throw reader.fail("a field has an impossible tag", type.name);
    const field = byNumber.get(number);
    if (field === undefined) {
      skip(reader, tag & 7, { type, end: limits.end });
      const unknown = (out[UNKNOWN] ??= []) as UnknownField[];
      unknown.push({ number, bytes: Buffer.from(reader.bytes.subarray(start, reader.at)) });
      continue;
    }
    readField(reader, { out, field, wire: tag & 7, type, end: limits.end, depth: limits.depth });
  }
  if (reader.at !== limits.end) throw reader.fail("a field reaches beyond the end of its message", type.name);
  for (const field of requiredFields) {
    if (out[field.name] === undefined) throw reader.fail("a required field is missing", type.name, field.name);
  }
  return out;
}

interface FieldContext {
  readonly out: Record<string | symbol, unknown>;
  readonly field: CompiledField;
  readonly wire: number;
  readonly type: MessageType<unknown>;
  readonly end: number;
  readonly depth: number;
}

const WIRE_OF: Readonly<Record<string, number>> = {
  fixed32: FIXED32,
  fixed64: FIXED64,
  string: BYTES,
  bytes: BYTES,
  message: BYTES,
};

function readField(reader: Reader, context: FieldContext): void {
  const { field, out, wire, type } = context;
  const wanted = WIRE_OF[field.kind] ?? VARINT;
  if (wire === wanted) {
    const value = readValue(reader, context);
    if (field.label === "repeated") (out[field.name] as unknown[]).push(value);
    else out[field.name] = value;
    return;
  }
  // Numbers of a repeated field may come packed into one run of bytes.
  if (wire !== BYTES || field.label !== "repeated" || wanted === BYTES) {
    throw reader.fail(`the field has wire type ${wire}, not ${wanted}`, type.name, field.name);
  }
  const end = lengthEnd(reader, context);
  while (reader.at < end) (out[field.name] as unknown[]).push(readValue(reader, { ...context, end }));
}

function lengthEnd(reader: Reader, { type, field, end }: FieldContext): number {
  const length = reader.varint32();
  if (Number.isNaN(length) || reader.at + length > end) {
    throw reader.fail(`the field says ${length} bytes, there are ${end - reader.at}`, type.name, field.name);
  }
  return reader.at + length;
}

function readValue(reader: Reader, context: FieldContext): unknown {
  const { field, type, end } = context;
  switch (field.kind) {
    case "uint32":
    case "int32":
    case "enum":
    case "bool":
    case "sint32": {
      const value = reader.varint32();
      if (Number.isNaN(value) || reader.at > end) throw reader.fail("a number is cut off", type.name, field.name);
      if (field.kind === "bool") return value !== 0;
      if (field.kind === "sint32") return (value >>> 1) ^ -(value & 1);
      return field.kind === "uint32" ? value : value | 0;
    }
    case "uint64":
    case "int64":
    case "sint64": {
      const value = reader.varint64();
      if (value === undefined || reader.at > end) throw reader.fail("a number is cut off", type.name, field.name);
      if (field.kind === "sint64") return BigInt.asIntN(64, (value >> 1n) ^ -(value & 1n));
      return field.kind === "uint64" ? value : BigInt.asIntN(64, value);
    }
    case "fixed32":
    case "fixed64": {
      const size = field.kind === "fixed32" ? 4 : 8;
      if (reader.at + size > end) throw reader.fail("a number is cut off", type.name, field.name);
      const value = size === 4 ? reader.bytes.readUInt32LE(reader.at) : reader.bytes.readBigUInt64LE(reader.at);
      reader.at += size;
      return value;
    }
    default:
      return readBytes(reader, context);
  }
}

function readBytes(reader: Reader, context: FieldContext): unknown {
  const { field } = context;
  const end = lengthEnd(reader, context);
  if (field.kind === "message" && field.message !== undefined) {
    return readMessage(reader, field.message(), { end, depth: context.depth + 1 });
  }
  const bytes = reader.bytes.subarray(reader.at, end);
  reader.at = end;
  return field.kind === "string" ? bytes.toString("utf8") : Buffer.from(bytes);
}

function skip(reader: Reader, wire: number, { type, end }: { type: MessageType<unknown>; end: number }): void {
  if (wire === VARINT) reader.varint64();
  else if (wire === FIXED64) reader.at += 8;
  else if (wire === FIXED32) reader.at += 4;
  else if (wire === BYTES) {
    const length = reader.varint32();
    reader.at += Number.isNaN(length) ? Number.POSITIVE_INFINITY : length;
  } else throw reader.fail(`an unknown field has wire type ${wire}`, type.name);
  if (!(reader.at <= end)) {
    reader.at = Math.min(end, reader.bytes.length);
    throw reader.fail("an unknown field is cut off", type.name);
  }
}
