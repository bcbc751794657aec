/**
 * JSON with numbers of any size, in and out. JSON.parse would round 64-bit numbers; the text written is laid out as crit's
 * users know it (ASCII only; one line with blanks after separators, or indented by four).
 */
import { UsageError } from "../../errors.js";

export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | JsonObject;
export type JsonObject = Map<string, JsonValue>;

const MAX_DEPTH = 200;

/** The text of `value`: on one line, or with line breaks and indents when `pretty`. */
export function writeJson(value: JsonValue, pretty: boolean): string {
  const out: string[] = [];
  write(value, { out, pretty, indent: "\n" });
  return out.join("");
}

interface Layout {
  readonly out: string[];
  readonly pretty: boolean;
  readonly indent: string;
}

function write(value: JsonValue, layout: Layout): void {
  const { out } = layout;
  if (Array.isArray(value)) writeList("[]", value, { ...layout, each: (item, inner) => write(item, inner) });
  else if (value instanceof Map) {
    writeList("{}", [...value], {
      ...layout,
      each: ([key, item], inner) => {
        out.push(quote(key), ": ");
        write(item, inner);
      },
    });
  } else out.push(typeof value === "string" ? quote(value) : String(value));
}

function writeList<T>(brackets: string, items: readonly T[], layout: Layout & { each: (item: T, inner: Layout) => void }): void {
  const { out, pretty, indent, each } = layout;
  const inner: Layout = { out, pretty, indent: `${indent}    ` };
  if (items.length === 0) {
    out.push(brackets);
    return;
  }
  out.push(brackets.charAt(0));
  items.forEach((item, i) => {
    if (i > 0) out.push(pretty ? "," : ", ");
    if (pretty) out.push(inner.indent);
    each(item, inner);
  });
  if (pretty) out.push(indent);
  out.push(brackets.charAt(1));
}

function quote(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Parses `text`; whole numbers that a JavaScript number does not hold exactly become big integers. */
export function parseJson(text: string, file: string): JsonValue {
  const parser = new Parser(text, file);
  const value = parser.value(0);
  parser.blank();
  if (parser.at < text.length) throw parser.fail("nothing more");
  return value;
}

class Parser {
  readonly text: string;
  readonly file: string;
  at = 0;

  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
  }

  fail(wanted: string): UsageError {
    const found = this.at < this.text.length ? `there is ${JSON.stringify(this.text.charAt(this.at))}` : "it ends";
    return new UsageError({
      code: "CRIT_BAD_JSON",
      message: `Cannot read "${this.file}" at byte ${Buffer.byteLength(this.text.slice(0, this.at))}: ${wanted} should come, ${found}`,
    });
  }

  blank(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      this.at++;
    }
  }

  take(token: string): boolean {
    this.blank();
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) throw this.fail(`at most ${MAX_DEPTH} levels`);
    if (this.take("{")) return this.object(depth + 1);
    if (this.take("[")) return this.array(depth + 1);
    if (this.text.charAt(this.at) === '"') return this.string();
    if (this.take("true")) return true;
    if (this.take("false")) return false;
    if (this.take("null")) return null;
    return this.number();
  }

  object(depth: number): JsonObject {
    const out: JsonObject = new Map();
    if (this.take("}")) return out;
    do {
      this.blank();
      if (this.text.charAt(this.at) !== '"') throw this.fail("a name in double quotes");
      const key = this.string();
      if (!this.take(":")) throw this.fail('":"');
      out.set(key, this.value(depth));
    } while (this.take(","));
    if (!this.take("}")) throw this.fail('"," or "}"');
    return out;
  }

  array(depth: number): JsonValue[] {
    const out: JsonValue[] = [];
    if (this.take("]")) return out;
    do out.push(this.value(depth));
    while (this.take(","));
    if (!this.take("]")) throw this.fail('"," or "]"');
    return out;
  }

  string(): string {
    const start = this.at;
    let end = start + 1;
    while (end < this.text.length && this.text[end] !== '"') end += this.text[end] === "\\" ? 2 : 1;
    try {
      const text: unknown = JSON.parse(this.text.slice(start, end + 1));
      if (typeof text !== "string") throw new Error("not a string");
      this.at = end + 1;
      return text;
    } catch {
      throw this.fail("a string");
    }
  }

  number(): number | bigint {
    const pattern = /-?\d+(\.\d+)?([eE][-+]?\d+)?/y;
    pattern.lastIndex = this.at;
    const [text, fraction, exponent] = pattern.exec(this.text) ?? [];
    if (text === undefined) throw this.fail("a value");
    this.at += text.length;
    const number = Number(text);
    return Number.isSafeInteger(number) || fraction !== undefined || exponent !== undefined ? number : BigInt(text);
  }
}
