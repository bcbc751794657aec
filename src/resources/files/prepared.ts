/**
 * Getting ready, before the freeze, to read the descriptors of processes that have many.
 */
import { DescriptorRecords } from "../../linux/descriptor-records.js";
import { DescriptorTexts, type ReadDescriptor } from "../../linux/descriptor-texts.js";
import { readFdNumbers } from "../../linux/proc/list.js";

/** With fewer it is not worth it: the code for it would run for the first time in the freeze. */
const MANY = 32;
/** Of all processes together: each takes some kilobytes. */
const MOST = 16384;
/** Each takes two descriptors of ours. */
const MOST_PROCESSES = 64;
/** It takes some 40 ms to get the kernel's program ready, once: not for a few. */
const MANY_RECORDS = 128;

/** What processes have open is read twice: when this is made, so that all is ready, and while they stand still. */
export class PreparedDescriptors implements Disposable {
  readonly #records: DescriptorRecords | undefined;
  readonly #texts: ReadonlyMap<number, DescriptorTexts>;

  constructor(pids: readonly number[]) {
    const counts = pids.map((pid) => ({ pid, count: descriptorsOf(pid) }));
    const total = counts.reduce((sum, { count }) => sum + count, 0);
    this.#records = total < MANY_RECORDS ? undefined : DescriptorRecords.of(pids);
    this.#texts = this.#records === undefined ? textsOf(counts) : new Map();
  }

  /** What the last run has read, by pid. The same object as of an earlier run: nothing of it has changed. */
  get last(): ReadonlyMap<number, readonly ReadDescriptor[]> {
    return this.#records?.last ?? new Map([...this.#texts].map(([pid, { last }]) => [pid, last]));
  }

  /** Which namespaces processes were in at the last run, by pid, as far as that was seen: equal for those in the same ones. */
  get namespaces(): ReadonlyMap<number, string> {
    return this.#records?.namespaces ?? new Map();
  }

  /** Reads, by pid; a process that is missing is to be asked about one descriptor after another. */
  read(): ReadonlyMap<number, readonly ReadDescriptor[]> {
    if (this.#records !== undefined) return this.#records.read();
    return new Map([...this.#texts].flatMap(([pid, texts]) => pairs(pid, texts.read())));
  }

  /** The descriptors of a process that are certain to have neither an owner nor a signal, if that was not read with them. */
  ownerless(pid: number, pidfd: () => number): ReadonlySet<number> | undefined {
    return this.#texts.get(pid)?.ownerless(pidfd());
  }

  [Symbol.dispose](): void {
    this.#records?.[Symbol.dispose]();
    for (const texts of this.#texts.values()) texts[Symbol.dispose]();
  }
}

function pairs<T>(pid: number, read: T | undefined): (readonly [number, T])[] {
  return read === undefined ? [] : [[pid, read]];
}

function textsOf(counts: readonly { pid: number; count: number }[]): ReadonlyMap<number, DescriptorTexts> {
  const byPid = new Map<number, DescriptorTexts>();
  let total = 0;
  for (const { pid, count } of counts) {
    if (byPid.size === MOST_PROCESSES) break;
    if (count < MANY || total + count > MOST) continue;
    const texts = DescriptorTexts.of(pid);
    if (texts === undefined) continue;
    byPid.set(pid, texts);
    total += count;
  }
  return byPid;
}

function descriptorsOf(pid: number): number {
  try {
    return readFdNumbers(pid).length;
  } catch {
    return 0; // it has ended
  }
}
