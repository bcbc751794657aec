/**
 * LZ4 blocks (the LZ4 Block Format of its documentation): for machines without the library, several times slower than that.
 *
 * A block is a row of sequences: a token (length of literals, length of a match less 4, four bits each; 15 goes on in further
 * bytes), the literals, two bytes of distance, further length. The last sequence has literals only.
 */
const MIN_MATCH = 4;
/** The last match begins at least 12 bytes before the end, and the last 5 bytes are literals. */
const LAST_MATCH = 12;
const LAST_LITERALS = 5;
const MAX_DISTANCE = 0xffff;
const HASH_BITS = 14;

/** The plain bytes of a block that has exactly so many; undefined when it is no such block. */
export function lz4Decompress(block: Uint8Array, plainBytes: number): Buffer | undefined {
  const out = Buffer.alloc(plainBytes);
  let at = 0;
  let to = 0;
  const length = (start: number): number => {
    let sum = start;
    if (start < 15) return sum;
    for (;;) {
      const more = block[at++];
      if (more === undefined) return Number.POSITIVE_INFINITY;
      sum += more;
      if (more !== 255) return sum;
    }
  };
  while (at < block.length) {
    const token = block[at++] as number;
    const literals = length(token >> 4);
    if (literals > block.length - at || literals > plainBytes - to) return undefined;
    out.set(block.subarray(at, at + literals), to);
    at += literals;
    to += literals;
    if (at === block.length) return to === plainBytes ? out : undefined;
    if (at + 2 > block.length) return undefined;
    const distance = (block[at] as number) | ((block[at + 1] as number) << 8);
    at += 2;
    const match = length(token & 15) + MIN_MATCH;
    if (distance === 0 || distance > to || match > plainBytes - to) return undefined;
    // The match may reach into what it makes.
    if (distance >= match) out.copyWithin(to, to - distance, to - distance + match);
    else for (let i = 0; i < match; i++) out[to + i] = out[to - distance + i] as number;
    to += match;
  }
  return undefined;
}

/** Compresses into one block; undefined when that is not smaller. */
export function lz4Compress(plain: Uint8Array): Buffer | undefined {
  const view = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  const out = new Writer(view.length);
  const table = new Int32Array(1 << HASH_BITS).fill(-1);
  const limit = view.length - LAST_MATCH;
  let anchor = 0;
  for (let at = 0; at < limit; ) {
    const word = view.readUInt32LE(at);
    const slot = Math.imul(word, 0x9e3779b1) >>> (32 - HASH_BITS);
    const before = table[slot] as number;
    table[slot] = at;
    if (before < 0 || at - before > MAX_DISTANCE || view.readUInt32LE(before) !== word) {
      at++;
      continue;
    }
    let end = at + MIN_MATCH;
    while (end < view.length - LAST_LITERALS && view[end] === view[before + end - at]) end++;
    out.sequence(view.subarray(anchor, at), { distance: at - before, match: end - at });
    at = end;
    anchor = end;
  }
  out.sequence(view.subarray(anchor));
  return out.result();
}

/** Writes sequences as long as there is room. */
class Writer {
  readonly #bytes: Buffer;
  #used = 0;
  #isFull = false;

  constructor(room: number) {
    this.#bytes = Buffer.alloc(room);
  }

  sequence(literals: Uint8Array, copy?: { readonly distance: number; readonly match: number }): void {
    const extra = copy === undefined ? 0 : copy.match - MIN_MATCH;
    const most = 1 + literals.length + (literals.length / 255 + 1) + 2 + (extra / 255 + 1);
    if (this.#isFull || this.#used + most > this.#bytes.length) {
      this.#isFull = true;
      return;
    }
    this.#byte((Math.min(15, literals.length) << 4) | Math.min(15, extra));
    this.#length(literals.length);
    this.#bytes.set(literals, this.#used);
    this.#used += literals.length;
    if (copy === undefined) return;
    this.#byte(copy.distance & 0xff);
    this.#byte(copy.distance >> 8);
    this.#length(extra);
  }

  #byte(value: number): void {
    this.#bytes[this.#used++] = value;
  }

  #length(value: number): void {
    if (value < 15) return;
    let left = value - 15;
    for (; left >= 255; left -= 255) this.#byte(255);
    this.#byte(left);
  }

  result(): Buffer | undefined {
    return this.#isFull ? undefined : this.#bytes.subarray(0, this.#used);
  }
}
