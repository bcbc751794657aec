/**
 * Lanes: threads of ours that make prepared native calls, several at once, without JavaScript.
 *
 * Floe is one thread of JavaScript, and copying or compressing gigabytes on one processor leaves the others idle. A lane
 * executes `lanes.S`: it takes the next group of calls off a table until none is left. What a group does (read, decompress,
 * write into a process) is put together here beforehand; what came of it is looked at afterwards. Between `start` and `join`
 * JavaScript may go on with something else.
 */
import { availableParallelism } from "node:os";
import {
  addressOf,
  callAt,
  functionAddress,
  joinThread,
  openLibrary,
  startThread,
  syscallNumber,
  viewMemory,
} from "./ffi/native.unsafe.js";
import { checked } from "./errno.js";
import { IOVEC_BYTES, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_BYTES, PROT_EXEC, PROT_READ, PROT_WRITE, mmap, munmap } from "./memory.js";
import { SYS } from "./syscalls.js";

/** The bytes of lanes.S; lanes.test.ts assembles it and compares. */
export const LANE_CODE: Uint8Array = Buffer.from(
  "5341574154415541564c8b274c8b6f084c8b7f10b801000000f0490fc10424493b4424087372498b1cc748833b0074e4" +
    "4c8b7338488b7b0841f6c60174034c01ef488b731041f6c60274034c01ee488b531841f6c60474034c01ea488b4b2041" +
    "f6c60874034c01e94c8b432841f6c61074034d01e84c8b4b3041f6c62074034d01e931c0ff13488943404883c3484885" +
    "c07997e97cffffff415e415d415c415f5b31c0c3",
  "hex",
);

const CALL_BYTES = 72;
const FLAGS_OFFSET = 56;
const RESULT_OFFSET = 64;
const MOST_LANES = 8;
const SIG_SETMASK = 2;

/** A C function that lanes can call. */
export type NativeFunction = bigint & { readonly native: true };

const known = new Map<string, NativeFunction>();

/** A function of libc. */
export function nativeFunction(name: string): NativeFunction {
  let found = known.get(name);
  if (found === undefined) {
    found = functionAddress(name) as NativeFunction;
    known.set(name, found);
  }
  return found;
}

/** Functions of a library of the system; undefined when it is not installed. */
export function nativeLibrary<N extends string>(file: string, names: readonly N[]): Record<N, NativeFunction> | undefined {
  const handle = openLibrary(file);
  if (handle === undefined) return undefined;
  return Object.fromEntries(names.map((name) => [name, functionAddress(name, handle)])) as Record<N, NativeFunction>;
}

/** An address inside the area that the lane that makes the call has to itself. */
export interface InArea {
  readonly inArea: number;
}

export type NativeArg = number | bigint | Uint8Array | InArea;

/** Groups of calls for lanes; the calls of a group are made one after another by one lane, until one returns less than 0. */
export class LaneWork {
  #table = Buffer.allocUnsafeSlow(256 * CALL_BYTES);
  #used = 0;
  readonly #groups: number[] = [];
  /** Memory that the calls use. */
  readonly #kept: Uint8Array[] = [];

  get groups(): number {
    return this.#groups.length;
  }

  /** Begins another group. */
  group(): void {
    this.#endGroup();
    this.#groups.push(this.#used);
  }

  #endGroup(): void {
    if (this.#groups.length === 0) return;
    this.#room();
    this.#table.fill(0, this.#used, this.#used + CALL_BYTES);
    this.#used += CALL_BYTES;
  }

  #room(): void {
    if (this.#used + CALL_BYTES <= this.#table.length) return;
    const larger = Buffer.allocUnsafeSlow(this.#table.length * 2);
    this.#table.copy(larger);
    this.#table = larger;
  }

  /** Adds a call of at most six arguments to the group; returns what {@link result} wants. */
  call(what: NativeFunction, ...args: readonly NativeArg[]): number {
    this.#room();
    const at = this.#used;
    const table = this.#table;
    table.fill(0, at, at + CALL_BYTES);
    table.writeBigUInt64LE(what, at);
    let flags = 0;
    args.forEach((arg, i) => {
      let value: bigint;
      if (arg instanceof Uint8Array) {
        this.#kept.push(arg);
        value = addressOf(arg);
      } else if (typeof arg === "object") {
        flags |= 1 << i;
        value = BigInt(arg.inArea);
      } else value = BigInt(arg);
      table.writeBigUInt64LE(BigInt.asUintN(64, value), at + 8 + i * 8);
    });
    table.writeUInt32LE(flags, at + FLAGS_OFFSET);
    this.#used += CALL_BYTES;
    return at;
  }

  /** Makes all calls in this thread; calls that need an area are not for this. */
  runHere(): void {
    using lanes = new Lanes({ areaBytes: 1, count: 1 });
    lanes.run(this);
  }

  /** What a call returned. A call that was not made because one before it failed returns 0. */
  result(call: number): bigint {
    return this.#table.readBigInt64LE(call + RESULT_OFFSET);
  }

  /** The same for a function that returns an int. */
  resultInt(call: number): number {
    return this.#table.readInt32LE(call + RESULT_OFFSET);
  }

  /** The control block, for a lane; nothing may be added any more. */
  control(): Buffer {
    this.#endGroup();
    const base = addressOf(this.#table);
    const table = Buffer.allocUnsafeSlow(Math.max(8, this.#groups.length * 8));
    this.#groups.forEach((at, i) => {
      table.writeBigUInt64LE(base + BigInt(at), i * 8);
    });
    const control = Buffer.allocUnsafeSlow(24);
    control.writeBigUInt64LE(0n, 0);
    control.writeBigUInt64LE(BigInt(this.#groups.length), 8);
    control.writeBigUInt64LE(addressOf(table), 16);
    this.#kept.push(table, control);
    return control;
  }
}

/** Lanes under way. */
export interface RunningLanes {
  /** Waits for all of them. */
  join(): void;
}

/** How many lanes are of use: one for each processor that we may run on. */
export function usefulLanes(): number {
  return Math.max(1, Math.min(MOST_LANES, availableParallelism()));
}

/** A number of lanes, each with an area of memory of its own. */
export class Lanes implements Disposable {
  readonly areaBytes: number;
  readonly count: number;
  readonly #code: bigint;
  readonly #areas: bigint;
  /** What each lane is given: the control block and its area. */
  #heads: Buffer[] = [];

  constructor({ areaBytes, count = usefulLanes() }: { areaBytes: number; count?: number }) {
    this.areaBytes = Math.ceil(areaBytes / PAGE_BYTES) * PAGE_BYTES;
    this.count = count;
    const sizeBytes = BigInt(PAGE_BYTES + this.areaBytes * count);
    this.#code = mmap({ sizeBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS });
    this.#areas = this.#code + BigInt(PAGE_BYTES);
    viewMemory(this.#code, LANE_CODE.length).set(LANE_CODE);
    const code = syscallNumber(SYS.mprotect, this.#code, PAGE_BYTES, PROT_READ | PROT_EXEC);
    checked(code, () => "mprotect(code of lanes)");
  }

  /** The area of a lane, to prepare what all calls use. */
  area(lane: number): { readonly address: bigint; readonly bytes: Buffer } {
    const address = this.#areas + BigInt(lane * this.areaBytes);
    return { address, bytes: viewMemory(address, this.areaBytes) };
  }

  /**
   * Starts. `others`: the same groups in other ways; the second lane takes what it does out of
   * the first of them, and so on, so each group is done in one of the ways.
   */
  start(work: LaneWork, ...others: readonly LaneWork[]): RunningLanes {
    const control = work.control();
    const tables = [control, ...others.map((other) => other.control())];
    const used = [work, ...others];
    this.#heads = [];
    const running: bigint[] = [];
    const before = blockSignals();
    try {
      for (let i = 0; i < Math.min(this.count, work.groups); i++) {
        const head = headOf(control, this.#areas + BigInt(i * this.areaBytes), tables[i % tables.length]);
        this.#heads.push(head);
        if (work.groups === 1) break;
        const thread = startThread(this.#code, addressOf(head));
        if (thread === undefined) break;
        running.push(thread);
      }
    } finally {
      setSignals(before);
    }
    // Not worth a thread, or none to be had (a limit): this one does it.
    const [first] = this.#heads;
    if (running.length === 0 && first !== undefined) callAt(this.#code, addressOf(first));
    return {
      join: () => {
        for (const thread of running.splice(0)) joinThread(thread);
        used.length = 0; // until now the lanes needed what it refers to
      },
    };
  }

  /**
   * Starts threads for all lanes but one, which is this one: it takes its share of the work in `join`. For groups that begin by waiting for
   * something, so that the threads are there when it comes. undefined: no thread is to be had.
   */
  startBeside(work: LaneWork): RunningLanes | undefined {
    const control = work.control();
    this.#heads = Array.from({ length: this.count }, (_, i) => headOf(control, this.#areas + BigInt(i * this.areaBytes)));
    const [own, ...others] = this.#heads;
    const used = [work];
    const running: bigint[] = [];
    const before = blockSignals();
    try {
      for (const head of others) {
        const thread = startThread(this.#code, addressOf(head));
        if (thread !== undefined) running.push(thread);
      }
    } finally {
      setSignals(before);
    }
    if (own === undefined || running.length === 0) return undefined;
    return {
      join: () => {
        callAt(this.#code, addressOf(own));
        for (const thread of running.splice(0)) joinThread(thread);
        used.length = 0;
      },
    };
  }

  /** Does all of the work. */
  run(work: LaneWork): void {
    if (work.groups > 0) this.start(work).join();
  }

  /** Makes the calls of a control block in this thread, as often as wanted; its memory and that of its table must not move. */
  runPrepared(control: Buffer): void {
    const head = headOf(control, this.#areas);
    // Its address alone does not keep it: freed in between, the lane would count in memory that is somebody else's.
    this.#heads = [head];
    callAt(this.#code, addressOf(head));
  }

  close(): void {
    munmap({ address: this.#code, sizeBytes: BigInt(PAGE_BYTES + this.areaBytes * this.count) });
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What a lane is given: the counter that all share, an area of its own, and the table of the groups that it may do. */
function headOf(control: Buffer, area: bigint, table = control): Buffer {
  const head = Buffer.allocUnsafeSlow(24);
  head.writeBigUInt64LE(addressOf(control), 0);
  head.writeBigUInt64LE(area, 8);
  head.writeBigUInt64LE(table.readBigUInt64LE(16), 16);
  return head;
}

/** Signals are for threads with JavaScript. */
function blockSignals(): Buffer {
  const before = Buffer.alloc(8);
  checked(syscallNumber(SYS.rt_sigprocmask, SIG_SETMASK, Buffer.alloc(8, 0xff), before, 8), () => "rt_sigprocmask");
  return before;
}

function setSignals(mask: Buffer): void {
  checked(syscallNumber(SYS.rt_sigprocmask, SIG_SETMASK, mask, 0, 8), () => "rt_sigprocmask");
}

/** Writes a struct iovec. */
export function writeIovec(into: Buffer, offset: number, range: { readonly address: bigint; readonly sizeBytes: bigint }): void {
  into.writeBigUInt64LE(range.address, offset);
  into.writeBigUInt64LE(range.sizeBytes, offset + IOVEC_BYTES / 2);
}
