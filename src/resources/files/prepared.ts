/**
 * Getting ready, before the freeze, to read the descriptors of processes that have many.
 */
import { DescriptorRecords } from "../../linux/descriptor-records.js";
import { type DescriptorReader, DescriptorTexts } from "../../linux/descriptor-texts.js";
import { readFdNumbers } from "../../linux/proc/list.js";

/** With fewer it is not worth it: the code for it would run for the first time in the freeze. */
const MANY = 32;
/** Of all processes together: each takes some kilobytes. */
const MOST = 16384;
/** Each takes two descriptors of ours. */
const MOST_PROCESSES = 64;

export interface PreparedDescriptors extends Disposable {
  readonly byPid: ReadonlyMap<number, DescriptorReader>;
}

/** What processes have open is read twice: now, so that all is ready, and while they stand still. */
export function prepareTexts(pids: readonly number[]): PreparedDescriptors {
  const byPid = new Map<number, DescriptorReader>();
  let total = 0;
  for (const pid of pids) {
    const count = descriptorsOf(pid);
    if (byPid.size === MOST_PROCESSES) break;
    if (count < MANY || total + count > MOST) continue;
    const texts = readerOf(pid, count);
    if (texts === undefined) continue;
    byPid.set(pid, texts);
    total += count;
  }
  return {
    byPid,
    [Symbol.dispose]() {
      for (const texts of byPid.values()) texts[Symbol.dispose]();
    },
  };
}

/** It takes some 40 ms to get the kernel's program ready, once: not for a few. */
const MANY_RECORDS = 128;

function readerOf(pid: number, count: number): DescriptorReader | undefined {
  return (count >= MANY_RECORDS ? DescriptorRecords.of(pid) : undefined) ?? DescriptorTexts.of(pid);
}

function descriptorsOf(pid: number): number {
  try {
    return readFdNumbers(pid).length;
  } catch {
    return 0; // it has ended
  }
}
