/** IPv4 and IPv6 addresses as text, inet_pton(3). (node:net knows them too, but to load it takes longer than all of ours.) */

const WORDS = 8;

/** The 4 or 16 bytes of an address; undefined: it is none. */
export function parseIpAddress(text: string): Buffer | undefined {
  return parseIpv4(text) ?? parseIpv6(text);
}

/** Four decimal numbers up to 255, without leading zeros. */
function parseIpv4(text: string): Buffer | undefined {
  const parts = text.split(".");
  const isAddress = parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
  return isAddress ? Buffer.from(parts.map(Number)) : undefined;
}

/** Eight hexadecimal words; one run of zeros may be left out, and the last two be written like an IPv4 address. */
function parseIpv6(text: string): Buffer | undefined {
  const halves = text.split("::");
  const [front, back] = halves.map((half) => (half === "" ? [] : half.split(":")));
  if (halves.length > 2 || front === undefined) return undefined;
  const given = [...front, ...(back ?? [])];
  const tail = parseIpv4(given.at(-1) ?? "");
  const words: number[] = [];
  for (const word of tail === undefined ? given : given.slice(0, -1)) {
    if (!/^[\da-f]{1,4}$/i.test(word)) return undefined;
    words.push(Number.parseInt(word, 16));
  }
  if (tail !== undefined) words.push(tail.readUInt16BE(0), tail.readUInt16BE(2));
  const missing = WORDS - words.length;
  if (back === undefined ? missing !== 0 : missing < 1) return undefined;
  // An IPv4 address in front of the run of zeros is none.
  if (back?.length === 0 && tail !== undefined) return undefined;
  words.splice(front.length, 0, ...new Array<number>(missing).fill(0));
  return Buffer.from(words.flatMap((word) => [word >>> 8, word & 0xff]));
}

/** An address of 4 or 16 bytes, the latter in brackets. */
export function ipText(address: Uint8Array): string {
  if (address.length === 4) return address.join(".");
  return `[${Buffer.from(address)
    .toString("hex")
    .replace(/(....)(?=.)/g, "$1:")}]`;
}
