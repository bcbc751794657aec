/**
 * Type information of the running kernel (BTF), /sys/kernel/btf/vmlinux.
 *
 * Source: Documentation/bpf/btf.rst, uapi/linux/btf.h. Only what is asked for is decoded: a kernel has 100 000 types.
 */
import { readFileSync } from "node:fs";

const MAGIC = 0xeb9f;
const KIND = { ARRAY: 3, STRUCT: 4, UNION: 5, ENUM: 6, FUNC: 12, FUNC_PROTO: 13, VAR: 14, DATASEC: 15, DECL_TAG: 17, ENUM64: 19 } as const;
/** Types that only say something more of another one, in the word of their size. */
const ATTRIBUTES: readonly number[] = [8, 9, 10, 11, 18]; // TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
const LAST_KIND = KIND.ENUM64;
/** struct btf_type: name, info, size or type. */
const HEAD_WORDS = 3;
/** struct btf_member: name, type, offset in bits. */
const MEMBER_WORDS = 3;
/** With kind_flag the upper byte of an offset is the size of a bit field. */
const OFFSET_MASK = 0xffffff;

/** Words behind the head of a type, by kind: fixed, and for each of its elements. */
const FIXED = new Uint8Array(LAST_KIND + 1);
for (const [kind, words] of [
  [1, 1],
  [KIND.ARRAY, 3],
  [KIND.VAR, 1],
  [KIND.DECL_TAG, 1],
] as const)
  FIXED[kind] = words;
const EACH = new Uint8Array(LAST_KIND + 1);
for (const [kind, words] of [
  [KIND.STRUCT, MEMBER_WORDS],
  [KIND.UNION, MEMBER_WORDS],
  [KIND.ENUM, 2],
  [KIND.FUNC_PROTO, 2],
  [KIND.DATASEC, 3],
  [KIND.ENUM64, 3],
] as const)
  EACH[kind] = words;

const MOST_ATTRIBUTES = 8;

/** What is looked for. */
export interface TypesWanted {
  readonly function: string;
  readonly struct: string;
  readonly members: readonly string[];
}

export interface TypesFound {
  /** BTF id of the function. */
  readonly functionId: number;
  /** Offsets of the members in bytes, in the order asked for. */
  readonly offsets: readonly number[];
}

/** Names of structs, and of those of their members that are looked for; "name?": it may be missing; "name.inner": one of a struct in it. */
export type StructsWanted = Readonly<Record<string, readonly string[]>>;

/** A struct: its size, and the offsets of its members, in bytes. */
export interface StructFound {
  readonly sizeBytes: number;
  readonly at: Readonly<Record<string, number>>;
}

const FILE = "/sys/kernel/btf/vmlinux";
let ofKernel: Lookup | undefined;

/** Those of the running kernel, read and gone through once; undefined where it has none. */
function kernelLookup(): Lookup | undefined {
  try {
    ofKernel ??= lookupIn(readFileSync(FILE));
    return ofKernel;
  } catch {
    return undefined;
  }
}

/** {@link findStructs} in the running kernel. */
export function kernelStructs(wanted: StructsWanted): Readonly<Record<string, StructFound | undefined>> | undefined {
  return kernelLookup()?.findAll(wanted);
}

/** {@link findTypes} in the running kernel. */
export function kernelTypes(wanted: TypesWanted): TypesFound | undefined {
  return kernelLookup()?.find(wanted);
}

/** Where members of structs lie; one of which something is not there is missing. Undefined: bytes are odd. */
export function findStructs(bytes: Buffer, wanted: StructsWanted): Readonly<Record<string, StructFound | undefined>> | undefined {
  return lookupIn(bytes)?.findAll(wanted);
}

/** Finds a function's id and where members of a struct lie; undefined when something is not there, or bytes are odd. */
export function findTypes(bytes: Buffer, wanted: TypesWanted): TypesFound | undefined {
  return lookupIn(bytes)?.find(wanted);
}

function lookupIn(bytes: Buffer): Lookup | undefined {
  if (bytes.length < 24 || bytes.readUInt16LE(0) !== MAGIC) return undefined;
  const headBytes = bytes.readUInt32LE(4);
  const [typesAt, typesBytes, stringsAt, stringsBytes] = [8, 12, 16, 20].map((at) => bytes.readUInt32LE(at)) as [
    number,
    number,
    number,
    number,
  ];
  const types = bytes.subarray(headBytes + typesAt, headBytes + typesAt + typesBytes);
  const strings = bytes.subarray(headBytes + stringsAt, headBytes + stringsAt + stringsBytes);
  if (types.length !== typesBytes || strings.length !== stringsBytes) return undefined;
  const words = new Uint32Array(typesBytes >> 2);
  types.copy(new Uint8Array(words.buffer));
  return new Lookup(words, strings);
}

class Lookup {
  readonly #words: Uint32Array;
  readonly #strings: Buffer;
  /** Word at which each type begins, by id, and each struct, by where its name stands; undefined before they have been gone through. */
  #starts: Uint32Array | undefined;
  readonly #structs = new Map<number, number>();

  constructor(words: Uint32Array, strings: Buffer) {
    this.#words = words;
    this.#strings = strings;
  }

  find(wanted: TypesWanted): TypesFound | undefined {
    const starts = this.#walk();
    const structAt = this.#structs.get(this.#nameOffset(wanted.struct));
    if (starts === undefined || structAt === undefined) return undefined;
    const functionId = this.#functionId(starts, this.#nameOffset(wanted.function));
    const offsets = wanted.members.map((member) => this.#bytesTo(member, structAt));
    return functionId === undefined || offsets.includes(undefined) ? undefined : { functionId, offsets: offsets as number[] };
  }

  #functionId(starts: Uint32Array, name: number): number | undefined {
    for (let id = 1; name !== 0 && id < starts.length; id++) {
      const at = starts[id] as number;
      if (this.#words[at] === name && this.#kind(at) === KIND.FUNC) return id;
    }
    return undefined;
  }

  findAll(wanted: StructsWanted): Record<string, StructFound> | undefined {
    if (this.#walk() === undefined) return undefined;
    const found: Record<string, StructFound> = {};
    for (const [struct, members] of Object.entries(wanted)) {
      const structAt = this.#structs.get(this.#nameOffset(struct));
      if (structAt === undefined) continue;
      const at: Record<string, number> = {};
      const isWhole = members.every((member) => {
        const [plain, isOptional] = [member.replace("?", ""), member.endsWith("?")];
        const offset = this.#bytesTo(plain, structAt);
        if (offset !== undefined) at[plain] = offset;
        return offset !== undefined || isOptional;
      });
      if (!isWhole) continue;
      found[struct] = { sizeBytes: this.#word(structAt + 2), at };
    }
    return found;
  }

  /** Goes through all types, once: where they begin; undefined: bytes are odd. There are 100 000: plain code is three times as fast here. */
  #walk(): Uint32Array | undefined {
    if (this.#starts !== undefined) return this.#starts;
    const words = this.#words;
    const last = words.length - HEAD_WORDS;
    const starts = new Uint32Array(words.length / HEAD_WORDS + 1);
    let id = 0;
    for (let at = 0; at <= last; ) {
      const info = words[at + 1] as number;
      const kind = (info >>> 24) & 0x1f;
      if (kind === 0 || kind > LAST_KIND) return undefined;
      starts[++id] = at;
      if (kind === KIND.STRUCT && words[at] !== 0) this.#structs.set(words[at] as number, at);
      at += HEAD_WORDS + (FIXED[kind] as number) + (EACH[kind] as number) * (info & 0xffff);
    }
    this.#starts = starts.subarray(0, id + 1);
    return this.#starts;
  }

  #kind(at: number): number {
    return (this.#word(at + 1) >>> 24) & 0x1f;
  }

  /** Offset of a member; undefined: not there, or part of a byte. */
  #bytesTo(member: string, structAt: number): number | undefined {
    let [bits, at]: [number, number | undefined] = [0, structAt];
    for (const name of member.split(".")) {
      const found: { bits: number; type: number } | undefined = at === undefined ? undefined : this.#find(this.#nameOffset(name), at, 0);
      if (found === undefined) return undefined;
      bits += found.bits;
      at = this.#plain(found.type);
    }
    return bits % 8 !== 0 ? undefined : bits / 8;
  }

  #word(at: number): number {
    return this.#words[at] ?? 0;
  }

  /** Where a name stands among the strings; 0 when it is none, which no named type has. */
  #nameOffset(name: string): number {
    return this.#strings.indexOf(`\0${name}\0`, 0, "latin1") + 1;
  }

  /** Offset in bits and type of a member; looks into members without a name as well. */
  #find(name: number, structAt: number, depth: number): { bits: number; type: number } | undefined {
    const count = this.#isCompound(structAt) ? this.#word(structAt + 1) & 0xffff : 0;
    for (let i = 0; i < count && name !== 0; i++) {
      const member = structAt + HEAD_WORDS + i * MEMBER_WORDS;
      const bits = this.#word(member + 2) & OFFSET_MASK;
      const type = this.#word(member + 1);
      if (this.#word(member) === name) return { bits, type };
      if (this.#word(member) !== 0 || depth > 4) continue;
      const innerAt = this.#starts?.[type];
      if (innerAt === undefined || !this.#isCompound(innerAt)) continue;
      const inner = this.#find(name, innerAt, depth + 1);
      if (inner !== undefined) return { bits: bits + inner.bits, type: inner.type };
    }
    return undefined;
  }

  /** Where a type begins, without what is said of it besides. */
  #plain(type: number): number | undefined {
    let at = this.#starts?.[type];
    for (let i = 0; at !== undefined && i < MOST_ATTRIBUTES && ATTRIBUTES.includes(this.#kind(at)); i++)
      at = this.#starts?.[this.#word(at + 2)];
    return at;
  }

  #isCompound(at: number): boolean {
    const kind = this.#kind(at);
    return kind === KIND.STRUCT || kind === KIND.UNION;
  }
}
