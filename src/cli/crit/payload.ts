/**
 * Bytes that follow a record: how many there are, how they look in JSON, and back.
 */
import type { ImageError } from "../../errors.js";
import type { ExtraRule } from "../../images/kinds.js";
import { decode } from "../../images/codec/decode.js";
import { encode } from "../../images/codec/encode.js";
import { ipcMsg } from "../../resources/ipc/msg.schema.js";
import { base64Lines, fromBase64 } from "./base64.js";
import type { JsonValue } from "./json.js";
import { type JsonPlace, fromJson, toJson } from "./values.js";

/** Reading position in an image, with the checks that reading needs. */
export interface ByteSource {
  readonly file: string;
  readonly offsetBytes: number;
  take(count: number | bigint, what: string): Buffer;
  rest(): Buffer;
  fail(because: string): ImageError;
}

export interface Payload {
  readonly json: JsonValue;
  /** Bytes of content, as `--nopl` tells them. */
  readonly sizeBytes: number;
  /** Filling bytes; only kept if one is not zero. */
  readonly padding: readonly Buffer[];
}

type Numbers = Readonly<Record<string, number | bigint | boolean | undefined>>;

/** Reads what follows a record. */
export function readPayload(rule: Exclude<ExtraRule, "ghost">, message: object, source: ByteSource): Payload {
  const m = message as Numbers;
  const number = (name: string): number => Number(m[name] ?? 0);
  switch (rule) {
    case "bytes":
    case "length":
      return plain(source.take(number(rule), "data"));
    case "keys-values":
      return plain(source.take(number("keys_bytes") + number("values_bytes"), "keys and values"));
    case "tcp-queues": {
      const inq = source.take(number("inq_len"), "the input queue");
      const outq = source.take(number("outq_len"), "the output queue");
      const json = new Map<string, JsonValue>([
        ["inq", base64Lines(inq)],
        ["outq", base64Lines(outq)],
      ]);
      return { json, sizeBytes: inq.length + outq.length, padding: [] };
    }
    case "shm": {
      // The content may be in a pagemap of its own: nothing follows then, but its size is told.
      if (m.in_pagemaps === true) return { json: "", sizeBytes: Number(m.size), padding: [] };
      const content = source.take(m.size as bigint, "the segment");
      return { ...plain(content), padding: [source.take(fill(content.length, 4), "filling")] };
    }
    case "sem": {
      const content = source.take(number("nsems") * 2, "semaphores");
      const values = Array.from({ length: content.length / 2 }, (_, i) => content.readUInt16LE(i * 2));
      return { json: values, sizeBytes: content.length, padding: [source.take(fill(content.length, 8), "filling")] };
    }
    case "msg":
      return readMessages(number("qnum"), source);
  }
}

function plain(bytes: Buffer): Payload {
  return { json: base64Lines(bytes), sizeBytes: bytes.length, padding: [] };
}

/** How `--nopl` tells a size: in the largest unit that fits, whole or with one digit behind the point. */
export function payloadSize(sizeBytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  const at = units.findLastIndex((_, i) => i === 0 || sizeBytes >= 1024 ** i);
  const unitBytes = 1024 ** at;
  if (sizeBytes % unitBytes === 0) return `${sizeBytes / unitBytes}${units[at]}`;
  const tenths = (sizeBytes * 10) / unitBytes;
  // Halves are rounded to the even digit.
  const isHalfAboveEven = tenths % 1 === 0.5 && Math.floor(tenths) % 2 === 0;
  return `${((isHalfAboveEven ? Math.floor(tenths) : Math.round(tenths)) / 10).toFixed(1)}${units[at]}`;
}

const fill = (length: number, unit: number): number => (unit - (length % unit)) % unit;

/** A message queue: for each message its length, the message, and its text, filled up to eight bytes. */
function readMessages(count: number, source: ByteSource): Payload {
  const json: JsonValue[] = [];
  const padding: Buffer[] = [];
  let sizeBytes = 0;
  for (let i = 0; i < count; i++) {
    const length = source.take(4, "the length of a message").readUInt32LE(0);
    const { offsetBytes } = source;
    const bytes = source.take(length, "a message");
    const message = decode(ipcMsg, bytes, { file: source.file, offsetBytes });
    const text = source.take(message.msize, "the text of a message");
    padding.push(source.take(fill(text.length, 8), "filling"));
    json.push(toJson(ipcMsg, message, false), base64Lines(text));
    sizeBytes += length + text.length;
  }
  return { json, sizeBytes, padding };
}

/** The bytes of a payload; `padding` are the filling bytes to use, zeros where it ends. */
export function writePayload(
  rule: Exclude<ExtraRule, "ghost">,
  json: JsonValue | undefined,
  { place, padding }: { place: JsonPlace; padding: Buffer },
): Buffer {
  let used = 0;
  const filler = (length: number, unit: number): Buffer => {
    const out = Buffer.alloc(fill(length, unit));
    out.set(padding.subarray(used, used + out.length));
    used += out.length;
    return out;
  };
  const text = (value: JsonValue | undefined): Buffer => {
    if (typeof value !== "string") throw place.fail("base64 text is needed");
    return fromBase64(value);
  };
  switch (rule) {
    case "bytes":
    case "length":
    case "keys-values":
      return text(json);
    case "tcp-queues":
      if (!(json instanceof Map)) throw place.fail('"inq" and "outq" are needed');
      return Buffer.concat([text(json.get("inq")), text(json.get("outq"))]);
    case "shm": {
      if (json === undefined) return Buffer.alloc(0);
      const content = text(json);
      return Buffer.concat([content, filler(content.length, 4)]);
    }
    case "sem": {
      const content = Buffer.alloc(list(json, place).length * 2);
      list(json, place).forEach((value, i) => {
        if (typeof value !== "number" || !(value >= 0 && value <= 0xffff)) throw place.at(i).fail("a number up to 65535 is needed");
        content.writeUInt16LE(value, i * 2);
      });
      return Buffer.concat([content, filler(content.length, 8)]);
    }
    case "msg": {
      const items = list(json, place);
      const out: Buffer[] = [];
      for (let i = 0; i < items.length; i += 2) {
        const message = encode(ipcMsg, fromJson(ipcMsg, items[i], place.at(i)) as { mtype: bigint; msize: number });
        const length = Buffer.alloc(4);
        length.writeUInt32LE(message.length, 0);
        const content = text(items[i + 1]);
        out.push(length, message, content, filler(content.length, 8));
      }
      return Buffer.concat(out);
    }
  }
}

function list(json: JsonValue | undefined, place: JsonPlace): JsonValue[] {
  if (!Array.isArray(json)) throw place.fail("a list is needed");
  return json;
}
