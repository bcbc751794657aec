/**
 * The functions of a vdso image, by its dynamic symbols. elf(5); DT_GNU_HASH as binutils writes it.
 *
 * The bytes come from an image directory, so nothing in them is believed: reads beyond the end are errors, loops have limits.
 */

const MAGIC = 0x464c457f;
/** ELFCLASS64, ELFDATA2LSB. */
const CLASS_64_LITTLE = 0x0201;
const EM_X86_64 = 62;
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_HASH = 4;
const DT_STRTAB = 5;
const DT_SYMTAB = 6;
const DT_GNU_HASH = 0x6ffffef5;
const DYNAMIC_BYTES = 16;
const SYMBOL_BYTES = 24;
const STT_NOTYPE = 0;
const STT_FUNC = 2;
/** Real ones have a dozen. */
const MAX_SYMBOLS = 1024;
const MAX_NAME = 256;

/** Function name → offset in the image; or why the bytes are no vdso. */
export function vdsoFunctions(image: Buffer): Map<string, number> | string {
  try {
    return new VdsoImage(image).functions();
  } catch (error) {
    if (error instanceof BadElf) return error.message;
    if (error instanceof RangeError) return "something in it points outside of it";
    throw error;
  }
}

class BadElf extends Error {}

class VdsoImage {
  readonly #bytes: Buffer;
  /** Address at which the image begins, by its own reckoning. */
  #base = 0n;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  functions(): Map<string, number> {
    const bytes = this.#bytes;
    if (bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt16BE(4) !== CLASS_64_LITTLE) throw new BadElf("it is no 64-bit ELF file");
    if (bytes.readUInt16LE(18) !== EM_X86_64) throw new BadElf("it is for another processor");
    const tables = this.#dynamic();
    const symbols = this.#offset(tables.get(DT_SYMTAB), "symbols");
    const strings = this.#offset(tables.get(DT_STRTAB), "names");
    const found = new Map<string, number>();
    for (let i = 1; i < this.#count(tables); i++) {
      const at = symbols + i * SYMBOL_BYTES;
      const type = bytes.readUInt8(at + 4) & 0xf;
      const isDefined = bytes.readUInt16LE(at + 6) !== 0;
      const value = Number(bytes.readBigUInt64LE(at + 8) - this.#base);
      if (!isDefined || (type !== STT_FUNC && type !== STT_NOTYPE)) continue;
      if (value < 0 || value >= bytes.length) throw new RangeError();
      found.set(this.#name(strings + bytes.readUInt32LE(at)), value);
    }
    return found;
  }

  /** Entries of the dynamic section by tag. */
  #dynamic(): Map<number, bigint> {
    const bytes = this.#bytes;
    const headers = this.#number(bytes.readBigUInt64LE(32));
    const count = bytes.readUInt16LE(56);
    let dynamic: { at: number; length: number } | undefined;
    for (let i = 0; i < count; i++) {
      const at = headers + i * PROGRAM_HEADER_BYTES;
      const type = bytes.readUInt32LE(at);
      const offset = bytes.readBigUInt64LE(at + 8);
      if (type === PT_LOAD) this.#base = bytes.readBigUInt64LE(at + 16) - offset;
      if (type === PT_DYNAMIC) dynamic = { at: this.#number(offset), length: this.#number(bytes.readBigUInt64LE(at + 32)) };
    }
    if (dynamic === undefined) throw new BadElf("it has no dynamic section");
    const tags = new Map<number, bigint>();
    for (let at = dynamic.at; at < dynamic.at + dynamic.length; at += DYNAMIC_BYTES) {
      const tag = bytes.readBigUInt64LE(at);
      if (tag === 0n) break;
      tags.set(Number(tag), bytes.readBigUInt64LE(at + 8));
    }
    return tags;
  }

  /** How many symbols there are: the old hash says it, the new one has to be walked. */
  #count(tables: ReadonlyMap<number, bigint>): number {
    const old = tables.get(DT_HASH);
    const count = old === undefined ? this.#countByGnuHash(this.#offset(tables.get(DT_GNU_HASH), "hash table")) : this.#oldCount(old);
    if (count > MAX_SYMBOLS) throw new BadElf(`it has ${count} symbols`);
    return count;
  }

  #oldCount(address: bigint): number {
    return this.#bytes.readUInt32LE(this.#offset(address, "hash table") + 4);
  }

  /** Header: buckets, first symbol, 64-bit words of the filter, its shift; then filter, buckets, chains (lowest bit: last one). */
  #countByGnuHash(at: number): number {
    const bytes = this.#bytes;
    const [buckets, first, words] = [0, 4, 8].map((offset) => bytes.readUInt32LE(at + offset)) as [number, number, number];
    const firstBucket = at + 16 + words * 8;
    const chains = firstBucket + buckets * 4;
    let last = first - 1;
    for (let i = 0; i < buckets; i++) last = Math.max(last, bytes.readUInt32LE(firstBucket + i * 4));
    while (last >= first && last < MAX_SYMBOLS && (bytes.readUInt32LE(chains + (last - first) * 4) & 1) === 0) last++;
    return last + 1;
  }

  #offset(address: bigint | undefined, what: string): number {
    if (address === undefined) throw new BadElf(`it has no ${what}`);
    return this.#number(address - this.#base);
  }

  #number(value: bigint): number {
    if (value < 0n || value >= BigInt(this.#bytes.length)) throw new RangeError();
    return Number(value);
  }

  #name(at: number): string {
    const end = this.#bytes.indexOf(0, at);
    if (at >= this.#bytes.length || end < 0 || end - at > MAX_NAME) throw new RangeError();
    return this.#bytes.toString("latin1", at, end);
  }
}
