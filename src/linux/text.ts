/**
 * Texts that need not be UTF-8: names of files, commands and sockets are any bytes on Linux.
 *
 * A byte that is not part of valid UTF-8 becomes the lone surrogate U+DC80 + (byte - 0x80), and back: nothing is lost. Such
 * a text is joined, split and compared like any other; see docs/decisions/0034-names-are-bytes.md.
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

const ESCAPED = /[\ud800-\udbff][\udc00-\udfff]|[\udc80-\udcff]/g;

/** `text` for people to read: a byte that is not UTF-8 is shown as \xNN. */
export function shownText(text: string): string {
  if (!LONE.test(text)) return text;
  return text.replace(ESCAPED, (found) => (found.length === 2 ? found : `\\x${(found.charCodeAt(0) - ESCAPE).toString(16)}`));
}

/** The bytes of a text with the NUL the kernel wants. */
export function cstring(text: string): Buffer {
  return LONE.test(text) ? Buffer.concat([bytesOf(text), Buffer.alloc(1)]) : Buffer.from(`${text}\0`);
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
