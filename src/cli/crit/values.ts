/**
 * Messages as JSON objects and back: field names as keys, numbers as they are or, in the readable form, as the schema's
 * presentation options say. Both forms are taken back.
 */
import { UsageError } from "../../errors.js";
import {
  type Compiled,
  type CompiledField,
  type MessageType,
  UNKNOWN,
  type UnknownField,
  compile,
  compiledSub,
} from "../../images/codec/schema.js";
import { addressText, addressWords } from "./address.js";
import { base64Lines, fromBase64 } from "./base64.js";
import type { JsonObject, JsonValue } from "./json.js";
import { BIT_NAMES, VALUE_NAMES } from "./names.js";
import { fromQuotedPrintable, quotedPrintable } from "./quoted-printable.js";

/** Key for fields that the schema does not know; other tools skip it. */
const UNKNOWN_KEY = "unknown_fields";
const MINOR_BITS = 20;
const MINOR_MASK = (1 << MINOR_BITS) - 1;

type Value = Record<string | symbol, unknown>;

/** The JSON object of a message; readable names and hexadecimal numbers when `pretty`. */
export function toJson(type: MessageType<object>, value: object, pretty: boolean): JsonObject {
  return messageToJson(compile(type), value as Value, { pretty, hex: false });
}

interface Form {
  readonly pretty: boolean;
  readonly hex: boolean;
}

function messageToJson(type: Compiled, value: Value, form: Form): JsonObject {
  const out: JsonObject = new Map();
  for (const field of type.ordered) {
    const v = value[field.name];
    if (v === undefined) continue;
    if (!field.repeated) out.set(keyOf(field, value), fieldToJson(field, v, form));
    else if (Array.isArray(v) && v.length > 0) out.set(field.name, listToJson(field, v, form));
  }
  const unknown = value[UNKNOWN] as UnknownField[] | undefined;
  if (unknown !== undefined) {
    out.set(
      UNKNOWN_KEY,
      unknown.map(
        (f): JsonObject =>
          new Map<string, JsonValue>([
            ["after", f.after],
            ["bytes", base64Lines(f.bytes)],
          ]),
      ),
    );
  }
  return out;
}

/** A field may have handed its name over to a newer one; without that, it keeps the name that readers know. */
function keyOf(field: CompiledField, value: Value): string {
  const { formerly } = field.options;
  return formerly !== undefined && value[formerly] === undefined ? formerly : field.name;
}

function listToJson(field: CompiledField, list: unknown[], form: Form): JsonValue[] {
  if (form.pretty && field.options.ipadd === true) {
    const text = addressText(list as number[]);
    if (text !== undefined) return [text];
  }
  return list.map((item) => fieldToJson(field, item, form));
}

function fieldToJson(field: CompiledField, v: unknown, { pretty, hex }: Form): JsonValue {
  const { options } = field;
  switch (field.kind) {
    case "message":
      return messageToJson(compiledSub(field), v as Value, { pretty, hex: hex || options.hex === true });
    case "bytes":
      return options.conv === "quoted-printable" ? quotedPrintable(v as Uint8Array) : base64Lines(v as Uint8Array);
    case "string":
    case "bool":
      return v as string | boolean;
    case "enum":
      return nameOf(field.enumeration?.().values ?? {}, v as number);
    default:
      return pretty ? readable(field, v as number | bigint, hex) : (v as number | bigint);
  }
}

function nameOf(values: Readonly<Record<string, number>>, value: number): string | number {
  for (const [name, number] of Object.entries(values)) if (number === value) return name;
  return value;
}

function readable(field: CompiledField, v: number | bigint, hex: boolean): JsonValue {
  const { options } = field;
  if (options.hex === true || hex) return `0x${v.toString(16)}`;
  const n = Number(v);
  if (options.flags !== undefined) return flagsText(options.flags, n);
  if (options.dict !== undefined) return nameOf(VALUE_NAMES[options.dict] ?? {}, n);
  if (options.dev === true) return `${n >>> MINOR_BITS}:${n & MINOR_MASK}`;
  if (options.odev === true) return `${(n >>> 8) & 0xfff}:${(n & 0xff) | ((n >>> 12) & 0xfff00)}`;
  return v;
}

function flagsText(table: string, value: number): string {
  let rest = value;
  const names: string[] = [];
  for (const [name, bit] of BIT_NAMES[table] ?? []) {
    if ((value & bit) === 0) continue;
    names.push(name);
    rest = (rest & ~bit) >>> 0;
  }
  if (rest !== 0) names.push(`0x${rest.toString(16)}`);
  return names.join(" | ");
}

/** Where in a JSON file a value stands, for messages. */
export class JsonPlace {
  readonly file: string;
  readonly path: string;

  constructor(file: string, path: string) {
    this.file = file;
    this.path = path;
  }

  at(key: string | number): JsonPlace {
    return new JsonPlace(this.file, typeof key === "number" ? `${this.path}[${key}]` : `${this.path}.${key}`);
  }

  fail(because: string): UsageError {
    return new UsageError({ code: "CRIT_BAD_VALUE", message: `Cannot encode "${this.file}": ${this.path}: ${because}` });
  }
}

/** The message value of a JSON object; keys that are no field are skipped. */
export function fromJson(type: MessageType<object>, json: JsonValue | undefined, place: JsonPlace): object {
  return messageFromJson(compile(type), json, place);
}

function messageFromJson(type: Compiled, json: JsonValue | undefined, place: JsonPlace): Value {
  if (!(json instanceof Map)) throw place.fail("an object is needed");
  const out: Value = {};
  for (const field of type.ordered) {
    const v = json.get(field.name) ?? formerValue(field, json);
    const inner = place.at(field.name);
    if (field.repeated) out[field.name] = listFromJson(field, v, inner);
    else if (v !== undefined) out[field.name] = fieldFromJson(field, v, inner);
    else if (field.label === "required") throw inner.fail("the field is required");
  }
  // A value that came under a field's former name belongs to that field alone.
  for (const { name, options } of type.ordered) {
    if (options.formerly !== undefined && !json.has(name)) delete out[options.formerly];
  }
  const unknown = json.get(UNKNOWN_KEY);
  if (unknown !== undefined) out[UNKNOWN] = unknownFromJson(unknown, place.at(UNKNOWN_KEY));
  return out;
}

function formerValue(field: CompiledField, json: JsonObject): JsonValue | undefined {
  return field.options.formerly === undefined ? undefined : json.get(field.options.formerly);
}

function unknownFromJson(json: JsonValue, place: JsonPlace): UnknownField[] {
  if (!Array.isArray(json)) throw place.fail("a list is needed");
  return json.map((item, i) => {
    if (!(item instanceof Map)) throw place.at(i).fail("an object is needed");
    const after = item.get("after");
    const bytes = item.get("bytes");
    if (typeof after !== "number" || typeof bytes !== "string") throw place.at(i).fail('"after" and "bytes" are needed');
    return { number: 0, after, bytes: fromBase64(bytes) };
  });
}

function listFromJson(field: CompiledField, json: JsonValue | undefined, place: JsonPlace): unknown[] {
  if (json === undefined) return [];
  if (!Array.isArray(json)) throw place.fail("a list is needed");
  const [first] = json;
  if (field.options.ipadd === true && json.length === 1 && typeof first === "string") {
    const words = addressWords(first);
    if (words !== undefined) return words;
  }
  return json.map((item, i) => fieldFromJson(field, item, place.at(i)));
}

function fieldFromJson(field: CompiledField, json: JsonValue, place: JsonPlace): unknown {
  switch (field.kind) {
    case "message":
      return messageFromJson(compiledSub(field), json, place);
    case "string":
      if (typeof json === "string") return json;
      throw place.fail("a string is needed");
    case "bytes":
      if (typeof json !== "string") throw place.fail("a string is needed");
      return field.options.conv === "quoted-printable" ? fromQuotedPrintable(json) : fromBase64(json);
    case "bool":
      if (typeof json === "boolean") return json;
      return numberFromJson(field, json, place) !== 0n;
    default:
      return checkRange(field, numberFromJson(field, json, place), place);
  }
}

function numberFromJson(field: CompiledField, json: JsonValue, place: JsonPlace): bigint {
  if (typeof json === "bigint") return json;
  if (typeof json === "number" && Number.isInteger(json)) return BigInt(json);
  if (typeof json !== "string") throw place.fail("a whole number is needed");
  const number = field.kind === "enum" ? undefined : readableNumber(field, json);
  const named = number ?? namedNumber(field, json) ?? parseInteger(json);
  if (named === undefined) throw place.fail(`"${json}" is not known here`);
  return named;
}

function namedNumber(field: CompiledField, text: string): bigint | undefined {
  const table = field.kind === "enum" ? field.enumeration?.().values : VALUE_NAMES[field.options.dict ?? ""];
  const value = table !== undefined && Object.hasOwn(table, text) ? table[text] : undefined;
  return value === undefined ? undefined : BigInt(value);
}

function readableNumber({ options }: CompiledField, text: string): bigint | undefined {
  if (options.flags !== undefined) return flagsNumber(options.flags, text);
  if (options.dev !== true && options.odev !== true) return undefined;
  const [, majorText, minorText] = /^(\d+):(\d+)$/.exec(text) ?? [];
  if (majorText === undefined || minorText === undefined) return undefined;
  const major = BigInt(majorText);
  const minor = BigInt(minorText);
  if (options.dev === true) return (major << BigInt(MINOR_BITS)) | minor;
  return (minor & 0xffn) | (major << 8n) | ((minor & ~0xffn) << 12n);
}

function flagsNumber(table: string, text: string): bigint | undefined {
  let value = 0n;
  for (const part of text.split("|").map((p) => p.trim())) {
    if (part === "") continue;
    const bit = BIT_NAMES[table]?.find(([name]) => name === part)?.[1];
    const number = bit === undefined ? parseInteger(part) : BigInt(bit);
    if (number === undefined) return undefined;
    value |= number;
  }
  return value;
}

function parseInteger(text: string): bigint | undefined {
  const [, sign, digits] = /^\s*(-?)(0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|\d+)\s*$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  return sign === "-" ? -BigInt(digits) : BigInt(digits);
}

function checkRange(field: CompiledField, n: bigint, place: JsonPlace): number | bigint {
  const bits = field.kind.endsWith("64") ? 64 : 32;
  const signed = field.kind.includes("int") ? !field.kind.startsWith("u") : field.kind === "enum";
  const fits = signed ? BigInt.asIntN(bits, n) === n : BigInt.asUintN(bits, n) === n;
  if (!fits) throw place.fail(`${n} does not fit into ${field.kind}`);
  return bits === 64 ? n : Number(n);
}
