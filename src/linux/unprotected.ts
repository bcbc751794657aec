/**
 * ioctl(PAGEMAP_SCAN) by threads of ours, beside what this thread does meanwhile: where tracked memory is not protected.
 *
 * The look at the page tables takes a millisecond for each GiB. The threads are there before the processes stand still, and wait at the
 * end of a pipe; they begin when there is something in it.
 */
import { closeSync, writeSync } from "node:fs";
import { KernelError } from "../errors.js";
import { addressOf } from "./ffi/native.unsafe.js";
import { O_CLOEXEC } from "./files.js";
import { LaneWork, Lanes, type RunningLanes, nativeFunction, usefulLanes } from "./lanes.js";
import { openSync } from "./named-files.js";
import { SCAN, type Stretch, UNPROTECTED, addStretch, encodePagemapScan, isBitTrustworthy, pagemapScanEach } from "./pagemap.js";
import { pipe2 } from "./pipes.js";

/** What one call looks at: while it does, the process cannot change its mappings. */
const PIECE_BYTES = 64n << 20n;
/** Results of one call; where there are more, the rest is looked for by this thread. */
const REGIONS = 512;
/** Pieces that a lane takes at once. */
const GROUP = 2;
const POLLIN = 1;
/** Less is looked at in less time than it takes to wake a thread. */
const WORTH_BYTES = 64n << 20n;

interface Piece extends Readonly<Stretch> {
  readonly arg: Buffer;
  readonly regions: BigUint64Array;
  readonly call: number;
  /** Regions found, in the order of addresses; known when the lanes have ended. */
  found?: readonly Readonly<Stretch>[];
}

/** A process and its tracked memory, ascending. */
export interface TrackedMemory {
  readonly pid: number;
  readonly mappings: readonly Readonly<Stretch>[];
}

/** A look at the tracked memory of processes that will stand still. */
export class UnprotectedAhead implements Disposable {
  readonly #work = new LaneWork();
  readonly #pieces = new Map<number, Piece[]>();
  readonly #pagemaps = new Map<number, number>();
  readonly #pipe = pipe2(O_CLOEXEC);
  readonly #lanes = new Lanes({ areaBytes: 1, count: usefulLanes() });
  readonly #poll = Buffer.alloc(8);
  /** Where the piece was that was asked for last. */
  readonly #at = new Map<number, number>();
  #running: RunningLanes | undefined;
  #begun = 0;

  /** undefined: it is not worth it (and not wanted), or there is no second processor, or no thread to be had. */
  static prepare(processes: readonly TrackedMemory[], isWanted = false): UnprotectedAhead | undefined {
    const bytes = processes.reduce((sum, { mappings }) => mappings.reduce((of, { start, end }) => of + end - start, sum), 0n);
    if (bytes === 0n || (bytes < WORTH_BYTES && !isWanted) || usefulLanes() < 2 || !isBitTrustworthy()) return undefined;
    let ahead: UnprotectedAhead | undefined;
    try {
      ahead = new UnprotectedAhead();
      for (const one of processes) ahead.#add(one);
      ahead.#running = ahead.#lanes.startBeside(ahead.#work);
      if (ahead.#running !== undefined) return ahead;
    } catch (error) {
      // A limit, or a process that has ended. Anything else is a bug.
      if (!(error instanceof KernelError) && !(error instanceof Error && "syscall" in error)) throw error;
    }
    ahead?.close();
    return undefined;
  }

  private constructor() {
    // struct pollfd
    this.#poll.writeInt32LE(this.#pipe.readEnd, 0);
    this.#poll.writeInt16LE(POLLIN, 4);
  }

  #add({ pid, mappings }: TrackedMemory): void {
    const fd = openSync(`/proc/${pid}/pagemap`, "r");
    this.#pagemaps.set(pid, fd);
    const pieces: Piece[] = [];
    for (const mapping of mappings) {
      for (let start = mapping.start; start < mapping.end; start += PIECE_BYTES) {
        if (pieces.length % GROUP === 0) {
          this.#work.group();
          this.#work.call(nativeFunction("poll"), this.#poll, 1, -1);
        }
        const end = mapping.end - start < PIECE_BYTES ? mapping.end : start + PIECE_BYTES;
        const regions = new BigUint64Array((REGIONS * SCAN.regionBytes) / 8);
        const memory = new Uint8Array(regions.buffer);
        const arg = Buffer.concat([encodePagemapScan({ start, end, ...UNPROTECTED }, { address: addressOf(memory), count: REGIONS })]);
        const call = this.#work.call(nativeFunction("ioctl"), fd, SCAN.request, arg);
        pieces.push({ start, end, arg, regions, call });
      }
    }
    this.#pieces.set(pid, pieces);
  }

  /** The processes stand still. A second time it is all void, since they have run in between. */
  begin(): void {
    if (this.#begun++ === 0) writeSync(this.#pipe.writeEnd, "!");
  }

  #join(): void {
    if (this.#running === undefined) return;
    if (this.#begun === 0) this.begin();
    this.#running.join();
    this.#running = undefined;
  }

  /** All is read at once: what is found once is not found again later, when more may have been written. */
  #settle(): void {
    if (this.#running === undefined) return;
    this.#join();
    for (const [pid, pieces] of this.#pieces) {
      for (const piece of pieces) piece.found = this.#take(this.#pagemaps.get(pid) ?? -1, piece);
    }
  }

  /** What {@link unprotectedStretches} would have found when it began; undefined: not all of the range was looked at. Waits for the threads. */
  of(pid: number, { start, end }: Readonly<Stretch>): Stretch[] | undefined {
    const pieces = this.#pieces.get(pid);
    if (this.#begun !== 1 || pieces === undefined) return undefined;
    this.#settle();
    const stretches: Stretch[] = [];
    let at = start;
    let index = this.#at.get(pid) ?? 0;
    if ((pieces[index]?.start ?? start) > start) index = 0;
    for (; at < end; index++) {
      const piece = pieces[index];
      if (piece === undefined || piece.start > at) return undefined;
      if (piece.end <= at) continue;
      this.#at.set(pid, index);
      for (const region of piece.found ?? []) {
        const from = region.start > at ? region.start : at;
        const to = region.end < end ? region.end : end;
        if (from < to) addStretch(stretches, from, to);
      }
      at = piece.end;
    }
    return stretches;
  }

  #take(fd: number, { start, end, arg, regions, call }: Piece): Stretch[] {
    const found: Stretch[] = [];
    const count = this.#work.resultInt(call);
    const walked = count < 0 ? start : arg.readBigUInt64LE(SCAN.walkEnd);
    for (let i = 0; i < count * 3; i += 3) found.push({ start: regions[i] ?? start, end: regions[i + 1] ?? start });
    if (walked >= end) return found;
    // It failed, or had more to tell than there was room for.
    const last = found.at(-1)?.end ?? start;
    const rest = { start: walked > last ? walked : last, end, ...UNPROTECTED };
    if (rest.start < end) pagemapScanEach(fd, rest, (from, to) => found.push({ start: from, end: to }));
    return found;
  }

  close(): void {
    this.#join();
    this.#lanes.close();
    for (const fd of [this.#pipe.readEnd, this.#pipe.writeEnd, ...this.#pagemaps.values()]) closeSync(fd);
    this.#pagemaps.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
