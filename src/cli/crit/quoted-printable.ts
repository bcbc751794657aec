/**
 * Quoted-printable text (RFC 2045, 6.7): how crit shows names of UNIX sockets, which are any bytes.
 */

const MAX_LINE = 76;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;
const DOT = 0x2e;
const EQUALS = 0x3d;

export function quotedPrintable(bytes: Uint8Array): string {
  const firstBreak = bytes.indexOf(NEWLINE);
  const crlf = firstBreak > 0 && bytes[firstBreak - 1] === RETURN;
  let out = "";
  let column = 0;
  const put = (piece: string): void => {
    out += piece;
    column += piece.length;
  };
  for (let i = 0; i < bytes.length; i++) {
    const b = bytes[i] ?? 0;
    const next = bytes[i + 1];
    const returns = b === RETURN && next === NEWLINE;
    if (returns && crlf) {
      out += "\r\n";
      column = 0;
      i++;
      continue;
    }
    if (b === NEWLINE && !crlf) {
      out += "\n";
      column = 0;
      continue;
    }
    // Line breaks of the other sort than the first one are quoted: readers would make them equal.
    const quoted = mustQuote(b, { next, after: bytes[i + 2], column }) || b === NEWLINE || returns;
    const lineGoesOn = quoted || (next !== undefined && next !== NEWLINE);
    if (lineGoesOn && column + (quoted ? 3 : 1) >= MAX_LINE) {
      out += crlf ? "=\r\n" : "=\n";
      column = 0;
    }
    put(quoted ? `=${b.toString(16).toUpperCase().padStart(2, "0")}` : String.fromCharCode(b));
  }
  return out;
}

function mustQuote(b: number, { next, after, column }: { next: number | undefined; after: number | undefined; column: number }): boolean {
  if (b === EQUALS || b > 0x7e) return true;
  // Blanks at the end of a line get lost on the way, and a lone dot ended messages once.
  const endsLine = next === undefined || next === NEWLINE || (next === RETURN && after === NEWLINE);
  if (b === SPACE || b === TAB) return endsLine;
  if (b === DOT) return column === 0 && (next === undefined || next === NEWLINE || next === RETURN || next === 0);
  return b < SPACE && b !== RETURN && b !== NEWLINE;
}

export function fromQuotedPrintable(text: string): Buffer {
  const joined = text.replace(/=[ \t]*\r?\n/g, "");
  const parts: Buffer[] = [];
  for (const [piece] of joined.matchAll(/=[0-9A-Fa-f]{2}|[^=]+|=/g)) {
    parts.push(/^=../.test(piece) ? Buffer.from(piece.slice(1), "hex") : Buffer.from(piece, "utf8"));
  }
  return Buffer.concat(parts);
}
