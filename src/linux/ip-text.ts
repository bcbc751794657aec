/** IPv4 and IPv6 addresses as text, inet_pton(3). */
import { isIPv4, isIPv6 } from "node:net";

/** The 4 or 16 bytes of an address; undefined: it is none. */
export function parseIpAddress(text: string): Buffer | undefined {
  if (isIPv4(text)) return Buffer.from(text.split(".").map(Number));
  if (!isIPv6(text) || text.includes("%")) return undefined;
  // The last two words may be written like an IPv4 address.
  const plain = text.replace(/[\d.]+$/, (tail) => {
    const bytes = isIPv4(tail) ? Buffer.from(tail.split(".").map(Number)) : undefined;
    return bytes === undefined ? tail : `${bytes.readUInt16BE(0).toString(16)}:${bytes.readUInt16BE(2).toString(16)}`;
  });
  const [head = "", tail] = plain.split("::");
  const words = (part: string) => (part === "" ? [] : part.split(":").map((word) => Number.parseInt(word, 16)));
  const [front, back] = [words(head), words(tail ?? "")];
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Buffer.from(all.flatMap((word) => [word >>> 8, word & 0xff]));
}

/** An address of 4 or 16 bytes, the latter in brackets. */
export function ipText(address: Uint8Array): string {
  if (address.length === 4) return address.join(".");
  return `[${Buffer.from(address)
    .toString("hex")
    .replace(/(....)(?=.)/g, "$1:")}]`;
}
