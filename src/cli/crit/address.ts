/**
 * Internet addresses as images hold them: 32-bit words in network byte order, read as little-endian numbers; one word is
 * an IPv4 address, four are an IPv6 one.
 */

/** The text of an address of one or four words; undefined for any other number of words. */
export function addressText(words: readonly number[]): string | undefined {
  const bytes = Buffer.alloc(words.length * 4);
  words.forEach((word, i) => bytes.writeUInt32LE(word >>> 0, i * 4));
  if (words.length === 1) return [...bytes].join(".");
  return words.length === 4 ? ipv6Text(bytes) : undefined;
}

/** RFC 5952, with IPv4 notation at the end of mapped addresses. */
function ipv6Text(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2));
  let best = { at: 0, length: 0 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  if (best.at === 0 && best.length === 5 && groups[5] === 0xffff) return `::ffff:${[...bytes.subarray(12)].join(".")}`;
  const hex = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((g) => g.toString(16))
      .join(":");
  return best.length < 2 ? hex(0, 8) : `${hex(0, best.at)}::${hex(best.at + best.length, 8)}`;
}

/** The words of an address text; undefined when it is none. */
export function addressWords(text: string): number[] | undefined {
  const bytes = text.includes(":") ? ipv6Bytes(text) : ipv4Bytes(text);
  if (bytes === undefined) return undefined;
  const buffer = Buffer.from(bytes);
  return Array.from({ length: buffer.length / 4 }, (_, i) => buffer.readUInt32LE(i * 4));
}

function ipv4Bytes(text: string): number[] | undefined {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return undefined;
  const bytes = text.split(".").map(Number);
  return bytes.every((b) => b < 256) ? bytes : undefined;
}

function ipv6Bytes(text: string): number[] | undefined {
  const [head = "", tail, more] = text.split("::");
  if (more !== undefined) return undefined;
  const front = groupBytes(head);
  const back = tail === undefined ? [] : groupBytes(tail);
  if (front === undefined || back === undefined) return undefined;
  const gap = 16 - front.length - back.length;
  if (gap < 0 || (tail === undefined && gap !== 0)) return undefined;
  return [...front, ...new Array<number>(gap).fill(0), ...back];
}

function groupBytes(text: string): number[] | undefined {
  if (text === "") return [];
  const out: number[] = [];
  for (const group of text.split(":")) {
    const dotted = group.includes(".") ? ipv4Bytes(group) : undefined;
    if (dotted !== undefined) out.push(...dotted);
    else if (/^[0-9a-fA-F]{1,4}$/.test(group)) out.push(Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff);
    else return undefined;
  }
  return out;
}
