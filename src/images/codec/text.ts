/**
 * Strings of messages that need not be UTF-8: file names, command names and socket names are any bytes on Linux.
 *
 * A byte that is not part of valid UTF-8 becomes the lone surrogate U+DC80 + (byte - 0x80), and back: nothing is lost.
 */

const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
const ESCAPE = 0xdc00;
const REPLACEMENT = "\ufffd";

/** The text of `bytes`; bytes that are not UTF-8 are escaped. */
export function textOf(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  if (!text.includes(REPLACEMENT)) return text;
  // The replacement character may stand in the text itself, or for bytes that are not UTF-8: look at each.
  let out = "";
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at);
    if (length === 0) out += String.fromCharCode(ESCAPE + (bytes[at++] ?? 0));
    else {
      out += bytes.toString("utf8", at, at + length);
      at += length;
    }
  }
  return out;
}

/** The bytes of a text that {@link textOf} may have made. */
export function bytesOf(text: string): Buffer {
  if (!LONE.test(text)) return Buffer.from(text, "utf8");
  const parts: Buffer[] = [];
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    const escaped = code >= ESCAPE + 0x80 && code <= ESCAPE + 0xff;
    parts.push(escaped ? Buffer.from([code - ESCAPE]) : Buffer.from(character, "utf8"));
  }
  return Buffer.concat(parts);
}

/** Length of the valid UTF-8 sequence that begins at `at`, or 0. */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  // Overlong forms, surrogates and numbers above U+10FFFF do not come back as the bytes they were.
  const again = Buffer.from(bytes.toString("utf8", at, at + length), "utf8");
  return again.equals(bytes.subarray(at, at + length)) ? length : 0;
}
