/**
 * System-call programs: many calls made inside a stopped thread in one ptrace round trip.
 *
 * A program is a list of calls whose arguments are constants, the addresses of data that travels with the program, or
 * results of earlier calls. {@link Program} builds it; `run.ts` carries it out. What does not fit into the thread's
 * memory at once is cut into several rounds at call boundaries, invisibly.
 */
import { kernelError } from "../linux/errno.js";
import { syscallName } from "../linux/syscalls.js";
import { cstring } from "../linux/text.js";

/** Bytes per table entry: number and flags, six arguments, result. */
export const ENTRY_BYTES = 64;
const END = -1;
const COPY8 = -2;
const COPY4 = -3;
const END_IF_ZERO = -4;
const FLAG_MUST = 1;

/** Memory that travels with a program: input, output or both. Its address is known only when the program runs. */
export class Data {
  /** Present content: what is sent with the next round, and what came back from the last one. */
  readonly content: Buffer;
  /** Whether the target writes to it, so that it is read back. */
  readonly isOutput: boolean;
  /** Pointers inside the content: filled in when addresses are known. */
  readonly pointers: { readonly offset: number; readonly of: Place }[] = [];
  /** Address in the target during the present round (addresses fit a number); set while a round is laid out. */
  address = 0;

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

  /** Makes a failure of this call end the program, and `run` throw; `doing` says what it was for: a function, if it is asked of very many. */
  must(doing?: string | (() => string)): this {
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
  doing: string | (() => string) | undefined;
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
    return kernelError(this.name(), this.result ?? 0n, typeof this.doing === "function" ? this.doing() : this.doing);
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
    return new Data(cstring(text), false);
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

  /**
   * Ends the process if `result`, that of the call right before, is 0. Behind a clone(2): the child comes here too, and should
   * the tracer be dead by then nobody else stops it from going on as if it were its parent.
   */
  endIfZero(result: Result): void {
    this.entries.push(new Entry(END_IF_ZERO, [result]));
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

/** The table as words of 8 bytes, and as halves of them: numbers are written without a detour by a bigint. */
interface Words {
  readonly words: BigInt64Array;
  readonly halves: Int32Array;
}

const HALF = 2 ** 32;

function putNumber({ halves }: Words, index: number, value: number): void {
  halves[index * 2] = value | 0;
  halves[index * 2 + 1] = Math.floor(value / HALF);
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
  const { table, outputs, inputs, next } = choose(program, from, where.capacity);
  const base = Number(where.base);
  let at = (table.length + 1) * ENTRY_BYTES;
  for (const data of outputs) at = place(data, base, at);
  const readBackBytes = at;
  for (const data of inputs) at = place(data, base, at);
  const image = Buffer.alloc(at);
  const places = placesOf(table, where.base);
  const into = {
    words: new BigInt64Array(image.buffer, image.byteOffset, image.length >> 3),
    halves: new Int32Array(image.buffer, image.byteOffset, image.length >> 2),
  };
  const entries: { entry: Entry; index: number }[] = [];
  for (let index = 0; index < table.length; index++) {
    const slot = table[index] as Slot;
    writeSlot(into, index * WORDS_PER_ENTRY, { slot, places });
    if (slot.kind === "entry") entries.push({ entry: slot.entry, index });
  }
  into.halves[table.length * WORDS_PER_ENTRY * 2] = END;
  for (const data of outputs) writeData(image, data, base);
  for (const data of inputs) writeData(image, data, base);
  return { image, readBackBytes, entries, outputs: [...outputs], next };
}

const WORDS_PER_ENTRY = ENTRY_BYTES / 8;

/** Gives data its place at `at` bytes behind `base`; returns where the next one goes. */
function place(data: Data, base: number, at: number): number {
  data.address = base + at;
  return at + align(data.content.length);
}

function writeData(image: Buffer, data: Data, base: number): void {
  const offset = data.address - base;
  data.content.copy(image, offset);
  for (const p of data.pointers) image.writeBigUInt64LE(BigInt(p.of.data.address + p.of.offset), offset + p.offset);
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
    for (let argument = 0; argument < entry.args.length; argument++) {
      const arg = entry.args[argument] as ProgramArg;
      if (typeof arg !== "object") continue;
      if (arg instanceof Result) {
        if (entry.nr >= 0 && inRound.has(arg.entry)) copies.push({ kind: "copy", from: arg.entry, to: entry, argument });
      } else need(dataOf(arg), { outputs, inputs, fresh });
    }
    let more = (1 + copies.length) * ENTRY_BYTES;
    for (const data of fresh) more += align(data.content.length);
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

/** Output memory of a program, in the order in which it is laid out. */
export function outputsOf(program: Program): readonly Data[] {
  const chosen = { outputs: new Set<Data>(), inputs: new Set<Data>(), fresh: [] as Data[] };
  for (const entry of program.entries) {
    for (const arg of entry.args) if (typeof arg === "object" && !(arg instanceof Result)) need(dataOf(arg), chosen);
  }
  return chosen.fresh.filter((data) => data.isOutput);
}

interface Chosen {
  readonly outputs: ReadonlySet<Data>;
  readonly inputs: ReadonlySet<Data>;
  readonly fresh: Data[];
}

/** Notes data that an entry needs, with all that it points to, unless it is there already. */
function need(data: Data | undefined, chosen: Chosen): void {
  const { outputs, inputs, fresh } = chosen;
  if (data === undefined || outputs.has(data) || inputs.has(data) || fresh.includes(data)) return;
  fresh.push(data);
  for (const p of data.pointers) need(p.of.data, chosen);
}

/** A copy of a result that an earlier round brought back is made here, on our side. */
function storeEarlierResult(entry: Entry, inRound: ReadonlySet<Entry>): boolean {
  const [source, place] = entry.args;
  if (entry.nr >= 0 || entry.nr === END_IF_ZERO || !(source instanceof Result) || inRound.has(source.entry)) return false;
  const { data, offset } = place as Place;
  if (entry.nr === COPY8) data.content.writeBigInt64LE(source.value, offset);
  else data.content.writeInt32LE(Number(BigInt.asIntN(32, source.value)), offset);
  return true;
}

/** Writes one entry from word `at` of the table on. */
function writeSlot(into: Words, at: number, context: { slot: Slot; places: ReadonlyMap<Entry, bigint> }): void {
  const { slot, places } = context;
  const { words, halves } = into;
  if (slot.kind === "copy") {
    halves[at * 2] = COPY8;
    words[at + 1] = (places.get(slot.from) ?? 0n) + 56n;
    words[at + 2] = (places.get(slot.to) ?? 0n) + 8n + BigInt(slot.argument * 8);
    return;
  }
  const { entry } = slot;
  const { args } = entry;
  halves[at * 2] = entry.nr;
  halves[at * 2 + 1] = entry.must ? FLAG_MUST : 0;
  for (let k = 0; k < args.length; k++) {
    const arg = args[k] as ProgramArg;
    const index = at + 1 + k;
    if (typeof arg === "number") putNumber(into, index, arg);
    else if (typeof arg === "bigint") words[index] = arg;
    else if (arg instanceof Data) putNumber(into, index, arg.address);
    else if (arg instanceof Result) words[index] = resultValue(arg, entry, places);
    else putNumber(into, index, arg.data.address + arg.offset);
  }
}

function resultValue(arg: Result, consumer: Entry, places: ReadonlyMap<Entry, bigint>): bigint {
  const there = places.get(arg.entry);
  if (there === undefined) return arg.value;
  return consumer.nr < 0 ? there + 56n : 0n; // a call's argument is filled in by the copy in front of it
}

/** Takes results and output data of a finished round out of what was read back. `endIndex`: entries that were reached. */
export function takeBack(round: Round, memory: Buffer, where: { base: bigint; endIndex: number }): void {
  const base = Number(where.base);
  const words = new BigInt64Array(memory.buffer, memory.byteOffset, memory.length >> 3);
  for (const { entry, index } of round.entries) {
    if (index > where.endIndex || index * ENTRY_BYTES + ENTRY_BYTES > memory.length) break;
    if (entry.nr >= 0) entry.result = words[index * 8 + 7] ?? 0n;
  }
  for (const data of round.outputs) {
    const offset = data.address - base;
    memory.copy(data.content, 0, offset, offset + data.content.length);
  }
}
