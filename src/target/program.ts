/**
 * System-call programs: many calls made inside a stopped thread in one ptrace round trip.
 *
 * A program is a list of calls whose arguments are constants, the addresses of data that travels with the program, or
 * results of earlier calls. {@link Program} builds it; `run.ts` carries it out. What does not fit into the thread's
 * memory at once is cut into several rounds at call boundaries, invisibly.
 */
import { kernelError } from "../linux/errno.js";
import { syscallName } from "../linux/syscalls.js";

/** Bytes per table entry: number and flags, six arguments, result. */
export const ENTRY_BYTES = 64;
const END = -1;
const COPY8 = -2;
const COPY4 = -3;
const FLAG_MUST = 1;

/** Memory that travels with a program: input, output or both. Its address is known only when the program runs. */
export class Data {
  /** Present content: what is sent with the next round, and what came back from the last one. */
  readonly content: Buffer;
  /** Whether the target writes to it, so that it is read back. */
  readonly isOutput: boolean;
  /** Pointers inside the content: filled in when addresses are known. */
  readonly pointers: { readonly offset: number; readonly of: Place }[] = [];
  /** Address in the target during the present round; set while a round is laid out. */
  address = 0n;

  constructor(content: Buffer, isOutput: boolean) {
    this.content = content;
    this.isOutput = isOutput;
  }

  /** The place `offset` bytes into this data, as an argument. */
  at(offset: number): Place {
    return { data: this, offset };
  }

  /** The content after the run. */
  bytes(): Buffer {
    return this.content;
  }
}

/** A byte inside a {@link Data}. */
export interface Place {
  readonly data: Data;
  readonly offset: number;
}

/** The result of a call: an argument of later calls, and a value after the run. */
export class Result {
  readonly entry: Entry;

  constructor(entry: Entry) {
    this.entry = entry;
  }

  /** Makes a failure of this call end the program, and `run` throw; `doing` says what it was for. */
  must(doing?: string): this {
    this.entry.must = true;
    if (doing !== undefined) this.entry.doing = doing;
    return this;
  }

  /** What the call returned; negative errno on failure. Throws when the call was not reached. */
  get value(): bigint {
    if (this.entry.result === undefined) throw new Error(`internal error: no result of ${this.entry.name()}`);
    return this.entry.result;
  }

  /** Whether the call was reached at all. */
  get ran(): boolean {
    return this.entry.result !== undefined;
  }

  /** The positive errno, or 0 when the call succeeded. */
  get errno(): number {
    const value = this.value;
    return value < 0n && value >= -4095n ? Number(-value) : 0;
  }

  /** The value, or the typed error of the call. */
  get checked(): bigint {
    if (this.errno !== 0) throw this.entry.error();
    return this.value;
  }
}

/** What can be an argument of a call. */
export type ProgramArg = number | bigint | Data | Place | Result;

/** One entry of the table: a call, or a copy of a result into data. */
export class Entry {
  readonly nr: number;
  readonly args: readonly ProgramArg[];
  must = false;
  doing: string | undefined;
  result: bigint | undefined;

  constructor(nr: number, args: readonly ProgramArg[]) {
    this.nr = nr;
    this.args = args;
  }

  name(): string {
    const shown = this.args.map((a) => {
      if (typeof a === "number" || typeof a === "bigint") return a < 65536 && a > -65536 ? `${a}` : `0x${a.toString(16)}`;
      if (a instanceof Result) return a.ran ? `${a.value}` : "…";
      return "data";
    });
    return `${syscallName(this.nr)}(${shown.join(", ")})`;
  }

  error(): Error {
    return kernelError(this.name(), this.result ?? 0n, this.doing);
  }
}

/** Builds a program; see the head of this file. One program is for one thread. */
export class Program {
  readonly entries: Entry[] = [];

  /** Output memory of `length` zero bytes. */
  buffer(length: number): Data {
    return new Data(Buffer.alloc(length), true);
  }

  /** Input bytes; the buffer is not copied until the program runs. */
  bytes(content: Uint8Array): Data {
    return new Data(Buffer.from(content.buffer, content.byteOffset, content.byteLength), false);
  }

  /** Memory that is sent and read back. */
  inOut(content: Uint8Array): Data {
    return new Data(Buffer.from(content), true);
  }

  /** A string with its closing zero. */
  cstring(text: string): Data {
    return new Data(Buffer.from(`${text}\0`), false);
  }

  /** Adds system call `nr`. */
  call(nr: number, ...args: readonly ProgramArg[]): Result {
    const entry = new Entry(nr, args);
    this.entries.push(entry);
    return new Result(entry);
  }

  /** Adds a copy of `result` into data, in 4 or 8 bytes, made before the calls that follow. */
  store(to: Place | Data, result: Result, width: 4 | 8 = 8): void {
    const place = to instanceof Data ? to.at(0) : to;
    this.entries.push(new Entry(width === 8 ? COPY8 : COPY4, [result, place]));
  }

  /** Adds a copy of data to an address in the target, in 4 or 8 bytes, made before the calls that follow. */
  copy(from: Place, to: bigint, width: 4 | 8): void {
    this.entries.push(new Entry(width === 8 ? COPY8 : COPY4, [from, to]));
  }

  /** Writes the address that `of` has in the target into data: for pointers inside structs. Resolved when laid out. */
  storeAddress(to: Place, of: Data | Place): void {
    to.data.pointers.push({ offset: to.offset, of: of instanceof Data ? of.at(0) : of });
  }

  /** The first call that had to succeed and did not. */
  get failure(): Entry | undefined {
    return this.entries.find((e) => e.must && e.result !== undefined && e.result < 0n && e.result >= -4095n);
  }
}

/** A cut of a program that fits into a thread's memory: where things lie, and the bytes to write. */
export interface Round {
  readonly image: Buffer;
  /** Bytes at the start of the image that the target may change: table and output data. */
  readonly readBackBytes: number;
  readonly entries: readonly { readonly entry: Entry; readonly index: number }[];
  readonly outputs: readonly Data[];
  /** Index of the next entry of the program that has not been laid out. */
  readonly next: number;
}

/** Where the entries lie whose results others need. */
function placesOf(table: readonly Slot[], base: bigint): Map<Entry, bigint> {
  const wanted = new Set<Entry>();
  for (const slot of table) {
    if (slot.kind === "copy") wanted.add(slot.from).add(slot.to);
    else if (slot.entry.nr < 0) for (const arg of slot.entry.args) if (arg instanceof Result) wanted.add(arg.entry);
  }
  const places = new Map<Entry, bigint>();
  if (wanted.size === 0) return places;
  table.forEach((slot, i) => {
    if (slot.kind === "entry" && wanted.has(slot.entry)) places.set(slot.entry, base + BigInt(i * ENTRY_BYTES));
  });
  return places;
}

/** An entry whose arguments are all numbers. */
function writeConstants(image: Buffer, words: BigInt64Array, { entry, at }: { entry: Entry; at: number }): void {
  image.writeInt32LE(entry.nr, at);
  image.writeInt32LE(entry.must ? FLAG_MUST : 0, at + 4);
  let word = (at >> 3) + 1;
  for (const arg of entry.args) words[word++] = BigInt(arg as number | bigint);
}

function dataOf(arg: ProgramArg): Data | undefined {
  return arg instanceof Data ? arg : typeof arg === "object" && "data" in arg ? arg.data : undefined;
}

function align(n: number): number {
  return (n + 15) & ~15;
}

/**
 * Lays out entries of `program` from index `from` on, as many as fit into `capacity` bytes at `base`.
 *
 * Order in memory: table, output data, input data; so one read gets all that came back.
 */
export function layOut(program: Program, from: number, where: { base: bigint; capacity: number }): Round {
  const chosen = choose(program, from, where.capacity);
  const { table, outputs, inputs } = chosen;
  let at = (table.length + 1) * ENTRY_BYTES;
  for (const data of outputs) {
    data.address = where.base + BigInt(at);
    at += align(data.content.length);
  }
  const readBackBytes = at;
  for (const data of inputs) {
    data.address = where.base + BigInt(at);
    at += align(data.content.length);
  }
  const image = Buffer.alloc(at);
  const places = placesOf(table, where.base);
  const words = new BigInt64Array(image.buffer, image.byteOffset, image.length >> 3);
  table.forEach((slot, i) => {
    if (slot.kind === "entry" && isPlain(slot.entry)) writeConstants(image, words, { entry: slot.entry, at: i * ENTRY_BYTES });
    else writeSlot(image, i * ENTRY_BYTES, { slot, places });
  });
  image.writeInt32LE(END, table.length * ENTRY_BYTES);
  for (const data of [...outputs, ...inputs]) {
    const offset = Number(data.address - where.base);
    data.content.copy(image, offset);
    for (const p of data.pointers) image.writeBigUInt64LE(p.of.data.address + BigInt(p.of.offset), offset + p.offset);
  }
  const entries = table.flatMap((slot, index) => (slot.kind === "entry" ? [{ entry: slot.entry, index }] : []));
  return { image, readBackBytes, entries, outputs: [...outputs], next: chosen.next };
}

function isPlain(entry: Entry): boolean {
  for (const arg of entry.args) if (typeof arg === "object") return false;
  return true;
}

type Slot =
  | { readonly kind: "entry"; readonly entry: Entry }
  /** Copies the result of `from` into argument number `argument` of the call `to`. */
  | { readonly kind: "copy"; readonly from: Entry; readonly to: Entry; readonly argument: number };

/** Chooses entries that fit; a result of this round used as an argument needs a copy in front of its consumer. */
function choose(program: Program, from: number, capacity: number) {
  const table: Slot[] = [];
  const outputs = new Set<Data>();
  const inputs = new Set<Data>();
  const inRound = new Set<Entry>();
  let size = ENTRY_BYTES;
  let next = from;
  for (; next < program.entries.length; next++) {
    const entry = program.entries[next] as Entry;
    if (storeEarlierResult(entry, inRound)) continue;
    if (isPlain(entry)) {
      // Most calls have constants only, and there can be tens of thousands of them.
      if (size + ENTRY_BYTES > capacity) break;
      size += ENTRY_BYTES;
      table.push({ kind: "entry", entry });
      inRound.add(entry);
      continue;
    }
    const fresh: Data[] = [];
    const copies: Slot[] = [];
    const need = (data: Data | undefined) => {
      if (data === undefined || outputs.has(data) || inputs.has(data) || fresh.includes(data)) return;
      fresh.push(data);
      for (const p of data.pointers) need(p.of.data);
    };
    entry.args.forEach((arg, argument) => {
      need(dataOf(arg));
      if (entry.nr >= 0 && arg instanceof Result && inRound.has(arg.entry)) {
        copies.push({ kind: "copy", from: arg.entry, to: entry, argument });
      }
    });
    const more = (1 + copies.length) * ENTRY_BYTES + fresh.reduce((sum, d) => sum + align(d.content.length), 0);
    if (size + more > capacity) {
      if (inRound.size === 0) throw new Error(`internal error: ${entry.name()} needs ${more} bytes, there are ${capacity}`);
      break;
    }
    size += more;
    table.push(...copies, { kind: "entry", entry });
    inRound.add(entry);
    for (const data of fresh) (data.isOutput ? outputs : inputs).add(data);
  }
  return { table, outputs, inputs, next };
}

/** A copy of a result that an earlier round brought back is made here, on our side. */
function storeEarlierResult(entry: Entry, inRound: ReadonlySet<Entry>): boolean {
  const [source, place] = entry.args;
  if (entry.nr >= 0 || !(source instanceof Result) || inRound.has(source.entry)) return false;
  const { data, offset } = place as Place;
  if (entry.nr === COPY8) data.content.writeBigInt64LE(source.value, offset);
  else data.content.writeInt32LE(Number(BigInt.asIntN(32, source.value)), offset);
  return true;
}

function writeSlot(image: Buffer, at: number, context: { slot: Slot; places: ReadonlyMap<Entry, bigint> }): void {
  const { slot, places } = context;
  if (slot.kind === "copy") {
    image.writeInt32LE(COPY8, at);
    image.writeBigInt64LE((places.get(slot.from) ?? 0n) + 56n, at + 8);
    image.writeBigInt64LE((places.get(slot.to) ?? 0n) + 8n + BigInt(slot.argument * 8), at + 16);
    return;
  }
  const { entry } = slot;
  image.writeInt32LE(entry.nr, at);
  image.writeInt32LE(entry.must ? FLAG_MUST : 0, at + 4);
  for (let k = 0; k < entry.args.length; k++) {
    const arg = entry.args[k] as ProgramArg;
    image.writeBigInt64LE(BigInt.asIntN(64, argumentValue(arg, entry, places)), at + 8 + k * 8);
  }
}

function argumentValue(arg: ProgramArg, consumer: Entry, places: ReadonlyMap<Entry, bigint>): bigint {
  if (typeof arg === "number") return BigInt(arg);
  if (typeof arg === "bigint") return arg;
  if (arg instanceof Data) return arg.address;
  if (arg instanceof Result) {
    const place = places.get(arg.entry);
    if (place === undefined) return arg.value;
    return consumer.nr < 0 ? place + 56n : 0n; // a call's argument is filled in by the copy in front of it
  }
  return arg.data.address + BigInt(arg.offset);
}

/** Takes results and output data of a finished round out of what was read back. `endIndex`: entries that were reached. */
export function takeBack(round: Round, memory: Buffer, where: { base: bigint; endIndex: number }): void {
  const words = new BigInt64Array(memory.buffer, memory.byteOffset, memory.length >> 3);
  for (const { entry, index } of round.entries) {
    if (index > where.endIndex || index * ENTRY_BYTES + ENTRY_BYTES > memory.length) break;
    if (entry.nr >= 0) entry.result = words[index * 8 + 7] ?? 0n;
  }
  for (const data of round.outputs) {
    const offset = Number(data.address - where.base);
    memory.copy(data.content, 0, offset, offset + data.content.length);
  }
}
