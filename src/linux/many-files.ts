/**
 * Looking at and opening many files by one native run over a prepared table of calls (lanes.ts), where a call from JavaScript for each
 * takes longer than what the kernel does.
 *
 * What fails here says no more than that: whoever wants to know why makes that one call again, by itself.
 */
import { closeSync } from "node:fs";
import { addressOf } from "./ffi/native.unsafe.js";
import { F_DUPFD_CLOEXEC } from "./fcntl.js";
import { AT_FDCWD, SEEK_SET } from "./files.js";
import { Lanes, LaneWork, type RunningLanes, nativeFunction } from "./lanes.js";
import { PreparedCalls, RESULT } from "./prepared-calls.js";
import { STATX_BASIC_STATS, STATX_BYTES } from "./statx.js";
import { SYS } from "./syscalls.js";

/** From so many on it is worth a table. */
export const MANY_FILES = 32;

/** Offsets in struct statx; uapi/linux/stat.h. */
const STX_MODE = 28;
const STX_SIZE = 40;

const NOBODY = BigInt(AT_FDCWD);

/** Words of a call: the function, the number of the system call, its arguments. */
const FIRST_ARGUMENT = 2;
const NAME = 3;
const FLAGS = 4;
const POSITION = 3;
const STAT = 6;

/** What a look tells of a file: st_mode and st_size. */
export interface Glance {
  readonly mode: number;
  readonly sizeBytes: bigint;
}

/** Names in memory, one after another, each with its closing zero. */
class Names {
  readonly #bytes: Buffer;
  readonly #places: number[] = [];

  constructor(names: readonly string[]) {
    this.#bytes = Buffer.from(`${names.join("\0")}\0`, "latin1");
    let at = 0;
    for (const name of names) {
      this.#places.push(at);
      at += name.length + 1;
    }
  }

  /** Addresses of the names; the memory stays where it is as long as this is referred to. */
  addresses(): readonly bigint[] {
    const base = addressOf(this.#bytes);
    return this.#places.map((at) => base + BigInt(at));
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }
}

/** Whether a name is of ASCII that can be printed, and so has a byte for each character. */
export function isPlainName(name: string): boolean {
  return /^[ -~]+$/.test(name);
}

/** stat(2) of plain names; undefined for those that cannot be looked at. */
export function glanceAt(paths: readonly string[]): (Glance | undefined)[] {
  using lanes = new Lanes({ areaBytes: 1, count: 1 });
  const names = new Names(paths);
  const stats = Buffer.allocUnsafeSlow(paths.length * STATX_BYTES);
  const calls = new PreparedCalls({ groups: paths.length, calls: 1 });
  const syscall = nativeFunction("syscall");
  const [statx, wanted, into] = [BigInt(SYS.statx), BigInt(STATX_BASIC_STATS), addressOf(stats)];
  calls.put(0, 0, syscall, statx, NOBODY, 0n, 0n, wanted, 0n);
  calls.repeatFirst();
  names.addresses().forEach((name, group) => {
    calls.setWord({ group, call: 0, word: NAME }, name);
    calls.setWord({ group, call: 0, word: STAT }, into + BigInt(group * STATX_BYTES));
  });
  calls.run(lanes);
  const seen = paths.map((_, i): Glance | undefined => {
    if (calls.result(i, 0) !== 0) return undefined;
    const at = i * STATX_BYTES;
    return { mode: stats.readUInt16LE(at + STX_MODE), sizeBytes: stats.readBigUInt64LE(at + STX_SIZE) };
  });
  // Until now the table has referred to them.
  return names.sizeBytes > 0 ? seen : [];
}

/** A file to be opened: by a plain name, at a position. */
export interface ToOpen {
  readonly path: string;
  readonly flags: number;
  readonly position: bigint;
}

/** open(2) and lseek(2) of many files; undefined for those of which either fails: nothing is left of these. */
export function openMany(files: readonly ToOpen[]): (number | undefined)[] {
  using lanes = new Lanes({ areaBytes: 1, count: 1 });
  const names = new Names(files.map(({ path }) => path));
  const calls = new PreparedCalls({ groups: files.length, calls: 3 });
  const [syscall, memcpy] = [nativeFunction("syscall"), nativeFunction("memcpy")];
  const [openat, lseek] = [BigInt(SYS.openat), BigInt(SYS.lseek)];
  const addresses = names.addresses();
  calls.put(0, 0, syscall, openat, NOBODY, 0n, 0n, 0n);
  calls.put(0, 1, memcpy, 0n, 0n, 8n);
  calls.put(0, 2, syscall, lseek, 0n, 0n, BigInt(SEEK_SET));
  calls.setResult(0, 2, -1n);
  calls.repeatFirst();
  files.forEach(({ flags, position }, group) => {
    calls.setWord({ group, call: 0, word: NAME }, addresses[group] as bigint);
    calls.setWord({ group, call: 0, word: FLAGS }, BigInt(flags));
    if (position === 0n) {
      calls.setWord({ group, call: 1, word: 0 }, 0n); // there the group ends
      return;
    }
    calls.setWord({ group, call: 1, word: 1 }, calls.at(group, 2, FIRST_ARGUMENT));
    calls.setWord({ group, call: 1, word: 2 }, calls.at(group, 0, RESULT));
    calls.setWord({ group, call: 2, word: POSITION }, position);
  });
  calls.run(lanes);
  const opened = files.map(({ position }, i): number | undefined => {
    const fd = calls.result(i, 0);
    if (fd < 0) return undefined;
    if (position === 0n || calls.result(i, 2) >= 0) return fd;
    closeSync(fd);
    return undefined;
  });
  return names.sizeBytes > 0 ? opened : [];
}

/**
 * Lets the table of our descriptors grow to `count` of them at once, beside what we do until `join`. The kernel makes it twice as large
 * whenever it is full, and each time a process with several threads waits until no processor looks at the old one: tens of milliseconds
 * for a thousand descriptors.
 */
export function growDescriptors(count: number): RunningLanes {
  const lanes = new Lanes({ areaBytes: 1, count: 1 });
  const work = new LaneWork();
  const syscall = nativeFunction("syscall");
  work.group();
  const made = work.call(syscall, SYS.fcntl, 0, F_DUPFD_CLOEXEC, count);
  // One that has nothing to do: a single group is not worth a thread.
  work.group();
  const running = lanes.start(work);
  return {
    join() {
      running.join();
      const fd = work.resultInt(made);
      if (fd >= 0) closeSync(fd);
      lanes.close();
    },
  };
}
