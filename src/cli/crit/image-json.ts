/**
 * Whole images as JSON and back: {"magic": kind, "entries": [...]}, each entry with its message's fields and, where bytes
 * follow the message, their text under "extra". Nothing of the image is lost.
 */
import { ImageError, UsageError } from "../../errors.js";
import { decode } from "../../images/codec/decode.js";
import { MessageWriter } from "../../images/codec/encode.js";
import { COMMON_MAGIC, type ExtraRule, IMAGE_KINDS, type ImageKind, type ImageKindName, SERVICE_MAGIC } from "../../images/kinds.js";
import { IMAGE_MESSAGES, type KindMessages } from "../../resources/image-kinds.js";
import { base64Lines, fromBase64 } from "./base64.js";
import type { JsonObject, JsonValue } from "./json.js";
import { type ByteSource, payloadSize, readPayload, writePayload } from "./payload.js";
import { JsonPlace, fromJson, toJson } from "./values.js";

const MAX_MESSAGE_BYTES = 256 << 20;
const EXTRA = "extra";
const PADDING = "extra_padding";
/** Set on images of the oldest version, which have only their own magic. */
const SINGLE_MAGIC = "single_magic";

export interface DecodeOptions {
  readonly file: string;
  readonly pretty?: boolean;
  /** Tell only the size of the bytes behind a record. */
  readonly noPayload?: boolean;
}

/** A kind as crit names it. Kinds that share a magic share the first one's name. */
interface NamedKind {
  readonly name: string;
  readonly kind: ImageKind;
  readonly messages: KindMessages;
}

function namedKinds(): NamedKind[] {
  const out: NamedKind[] = [];
  for (const [name, messages] of Object.entries(IMAGE_MESSAGES)) {
    const kind = IMAGE_KINDS[name as ImageKindName];
    const shown = kind.framing === "service" ? name.replace(/^STATS_.*/, "STATS") : name.replace(/_OLD$/, "");
    out.push({ name: shown, kind, messages });
  }
  return out;
}

class Source implements ByteSource {
  readonly file: string;
  readonly bytes: Buffer;
  offsetBytes = 0;

  constructor(bytes: Buffer, file: string) {
    this.bytes = bytes;
    this.file = file;
  }

  get ended(): boolean {
    return this.offsetBytes >= this.bytes.length;
  }

  take(count: number | bigint, what: string): Buffer {
    const left = this.bytes.length - this.offsetBytes;
    if (count < 0 || count > left) throw this.fail(`${what} should have ${count} bytes, ${left} are left`);
    const start = this.offsetBytes;
    this.offsetBytes += Number(count);
    return this.bytes.subarray(start, this.offsetBytes);
  }

  rest(): Buffer {
    return this.take(this.bytes.length - this.offsetBytes, "the rest");
  }

  u32(what: string): number {
    return this.take(4, what).readUInt32LE(0);
  }

  fail(because: string): ImageError {
    return new ImageError({ code: "IMAGE_BAD_FRAMING", place: { file: this.file, offsetBytes: this.offsetBytes }, because });
  }
}

function readKind(source: Source): NamedKind & { readonly single: boolean } {
  const first = source.u32("the magic");
  const framed = first === COMMON_MAGIC || first === SERVICE_MAGIC;
  const magic = framed ? source.u32("the magic") : first;
  const found = namedKinds().find(({ kind }) => kind.magic === magic && (kind.framing === "service") === (first === SERVICE_MAGIC));
  // A single magic may also be an old service file's.
  const named = found ?? (framed ? undefined : namedKinds().find(({ kind }) => kind.magic === magic));
  if (named === undefined) {
    source.offsetBytes = framed ? 4 : 0;
    throw source.fail(`0x${magic.toString(16)} is not the magic of an image; images of raw data (pages, network tables) have none`);
  }
  return { ...named, single: !framed };
}

/** An image as JSON. */
export function decodeImage(bytes: Buffer, options: DecodeOptions): JsonObject {
  const source = new Source(bytes, options.file);
  const named = readKind(source);
  const out: JsonObject = new Map<string, JsonValue>([["magic", named.name]]);
  if (named.single && named.kind.framing !== "single") out.set(SINGLE_MAGIC, true);
  const entries: JsonValue[] = [];
  const ghost = named.kind.extra === "ghost";
  let chunks = true;
  while (!source.ended && (chunks || entries.length === 0)) {
    const first = entries.length === 0;
    const { message, json } = readMessage(source, { named, first, pretty: options.pretty === true });
    entries.push(json);
    if (ghost) {
      if (first) chunks = (message as { chunks?: boolean }).chunks === true;
      readGhostData(source, { json, message, first, chunks, hide: options.noPayload === true });
    } else if (named.kind.extra !== undefined)
      readExtra(source, { json, message, rule: named.kind.extra, hide: options.noPayload === true });
  }
  out.set("entries", entries);
  return out;
}

function readMessage(
  source: Source,
  { named, first, pretty }: { named: NamedKind; first: boolean; pretty: boolean },
): { message: object; json: JsonObject } {
  const length = source.u32("the length of a record");
  if (length > MAX_MESSAGE_BYTES) throw source.fail(`a record of ${length} bytes is announced`);
  const { offsetBytes } = source;
  const bytes = source.take(length, "a record");
  const type = (first ? named.messages.first : undefined) ?? named.messages.entry;
  const message = decode(type, bytes, { file: source.file, offsetBytes });
  return { message, json: toJson(type, message, pretty) };
}

function readExtra(
  source: Source,
  { json, message, rule, hide }: { json: JsonObject; message: object; rule: ExtraRule; hide: boolean },
): void {
  if (rule === "ghost") return;
  const payload = readPayload(rule, message, source);
  json.set(EXTRA, hide ? `... <${payloadSize(payload.sizeBytes)}>` : payload.json);
  const padding = Buffer.concat(payload.padding);
  if (!hide && padding.some((b) => b !== 0)) json.set(PADDING, base64Lines(padding));
}

/** Content of a deleted file: behind each chunk's record, or all of it behind the only record. */
function readGhostData(
  source: Source,
  { json, message, first, chunks, hide }: { json: JsonObject; message: object; first: boolean; chunks: boolean; hide: boolean },
): void {
  if (first && chunks) return;
  const content = first ? source.rest() : source.take((message as { len: bigint }).len, "a chunk");
  if (!hide) json.set(EXTRA, base64Lines(content));
}

/** How many entries an image has; the head of a pagemap is none. */
export function countEntries(bytes: Buffer, file: string): { readonly magic: string; readonly count: number } {
  const image = decodeImage(bytes, { file, noPayload: true });
  const entries = image.get("entries");
  const magic = String(image.get("magic"));
  const count = Array.isArray(entries) ? entries.length : 0;
  return { magic, count: magic === "PAGEMAP" ? Math.max(0, count - 1) : count };
}

/** The image that `json` describes. */
export function encodeImage(json: JsonValue, file: string): Buffer {
  const place = new JsonPlace(file, "image");
  if (!(json instanceof Map)) throw place.fail("an object is needed");
  const magic = json.get("magic");
  const entries = json.get("entries");
  const named = namedKinds().find(({ name }) => name === magic);
  if (named === undefined) {
    throw new UsageError({
      code: "CRIT_UNKNOWN_KIND",
      message: `Cannot encode "${file}": there is no kind of image with the magic ${String(magic)}`,
    });
  }
  if (!Array.isArray(entries)) throw place.at("entries").fail("a list is needed");
  const writer = new MessageWriter();
  const { framing, extra } = named.kind;
  if (framing !== "single" && json.get(SINGLE_MAGIC) !== true) writer.raw(u32(framing === "service" ? SERVICE_MAGIC : COMMON_MAGIC));
  writer.raw(u32(named.kind.magic));
  entries.forEach((entry, i) => {
    const inner = place.at("entries").at(i);
    const type = (i === 0 ? named.messages.first : undefined) ?? named.messages.entry;
    writer.record(type, fromJson(type, entry, inner));
    if (extra !== undefined && entry instanceof Map) writer.raw(extraBytes(entry, extra, inner));
  });
  return writer.written();
}

function extraBytes(entry: JsonObject, rule: ExtraRule, place: JsonPlace): Buffer {
  const json = entry.get(EXTRA);
  if (rule === "ghost") return typeof json === "string" ? fromBase64(json) : Buffer.alloc(0);
  const padding = entry.get(PADDING);
  return writePayload(rule, json, { place: place.at(EXTRA), padding: typeof padding === "string" ? fromBase64(padding) : Buffer.alloc(0) });
}

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value, 0);
  return out;
}
