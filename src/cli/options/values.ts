/**
 * Texts of options as values: numbers, sizes, descriptors, lists of words.
 */

const SIZE_UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };
const MAX_GHOST_BYTES = 2 ** 32 - 1;

/** A decimal, octal (0…) or hexadecimal (0x…) number, as strtol(3) reads it; nothing may follow it. */
export function parseNumber(text: string): number | undefined {
  const match = /^\s*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)$/.exec(text);
  const digits = match?.[2];
  if (digits === undefined) return undefined;
  const isOctal = digits.length > 1 && digits.startsWith("0") && !/^0x/i.test(digits);
  if (isOctal && /[89]/.test(digits)) return undefined;
  const value = isOctal ? Number.parseInt(digits, 8) : Number(digits);
  return match?.[1] === "-" ? -value : value;
}

/** A number of bytes with an optional suffix K, M or G (powers of 1024). */
export function parseSize(text: string): number | undefined {
  const match = /^([0-9]+|0[xX][0-9a-fA-F]+)([KMG]?)$/i.exec(text);
  const factor = SIZE_UNITS[(match?.[2] ?? "").toUpperCase()];
  const count = match?.[1] === undefined ? undefined : parseNumber(match[1]);
  if (count === undefined || factor === undefined) return undefined;
  const bytes = count * factor;
  return bytes <= MAX_GHOST_BYTES ? bytes : undefined;
}
