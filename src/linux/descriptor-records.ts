/**
 * What the kernel says about all descriptors of a tree, by a run of a program in the kernel for each process (descriptor-program.ts) and a
 * native run of statx(2) for each file behind them: a microsecond for a descriptor, where the files of /proc take nine (descriptor-texts.ts).
 *
 * Every run reads all of it. What is the same as at an earlier run, byte for byte, need not be taken apart again.
 */
import { closeSync, readlinkSync } from "node:fs";
import { KernelError } from "../errors.js";
import type { ReadDescriptor } from "./descriptor-texts.js";
import { FileRecord, eachRecord, fileProgram, readRecords } from "./descriptor-program.js";
import { F_OWNER_PID, LOCK_EX, dupFrom, flock, setDescriptorFlags, setOwner } from "./fcntl.js";
import { addressOf } from "./ffi/native.unsafe.js";
import { AT_FDCWD, SEEK_SET, lseek } from "./files.js";
import { Lanes, nativeFunction } from "./lanes.js";
import { MFD_CLOEXEC, memfdCreate } from "./memory.js";
import { PreparedCalls } from "./prepared-calls.js";
import type { FdInfo } from "./proc/fdinfo.js";
import { readFdInfo } from "./proc/read.js";
import { FileStat, STATX_BASIC_STATS, STATX_BYTES, statOf } from "./statx.js";
import { SYS } from "./syscalls.js";

const NAME_BYTES = 40;
/** Half a kilobyte of memory each. */
const MOST = 32768;

/** A descriptor as it was read, and the bytes that it was read from. */
interface Known {
  readonly bytes: Buffer;
  readonly record: FileRecord;
  readonly read: ReadDescriptor;
}

/** What was read of a process. */
interface Process {
  readonly bytes: Buffer;
  /** Ascending by number. */
  readonly known: ReadonlyMap<number, Known>;
  readonly reads: readonly ReadDescriptor[];
}

let isTrusted: boolean | undefined;

/** Whether the kernel has what it takes, and what is said of descriptors of our own is true. */
function canRead(): boolean {
  isTrusted ??= checkOwn();
  return isTrusted;
}

/** Where a descriptor leads to. */
type PlaceAt = (pid: number, fd: number) => string | undefined;

/** The descriptors of a tree. */
export class DescriptorRecords implements Disposable {
  readonly #program: number;
  #processes = new Map<number, Process>();
  readonly #stats: PlaceStats;

  private constructor(pids: readonly number[], program: number) {
    this.#program = program;
    for (const pid of pids) this.#processes.set(pid, { bytes: Buffer.alloc(0), known: new Map(), reads: [] });
    this.#readRecords();
    this.#stats = new PlaceStats(
      [...this.#processes].flatMap(([pid, { known }]) => [...known.values()].map(({ record }) => ({ pid, record }))),
    );
  }

  /** Of running processes: prepares, and reads once. Undefined where the kernel cannot, or there are too many. */
  static of(pids: readonly number[]): DescriptorRecords | undefined {
    const program = canRead() ? fileProgram() : undefined;
    if (program === undefined) return undefined;
    const made = new DescriptorRecords(pids, program);
    if (made.#count() <= MOST) {
      made.read();
      return made;
    }
    made[Symbol.dispose]();
    return undefined;
  }

  #count(): number {
    return [...this.#processes.values()].reduce((sum, { known }) => sum + known.size, 0);
  }

  /** What the last run has read, by pid. The same object as of an earlier run: nothing of it has changed. */
  get last(): ReadonlyMap<number, readonly ReadDescriptor[]> {
    return new Map([...this.#processes].map(([pid, { reads }]) => [pid, reads]));
  }

  /** Which namespaces each process was in at the last run, by pid: equal for those in the same ones. */
  get namespaces(): ReadonlyMap<number, string> {
    const found = new Map<number, string>();
    for (const [pid, { known }] of this.#processes) {
      const [first] = known.values();
      if (first?.record.namespaces !== undefined) found.set(pid, first.record.namespaces);
    }
    return found;
  }

  /** Reads all of them now. A process that has ended is left out, and one whose threads have different tables. */
  read(): ReadonlyMap<number, readonly ReadDescriptor[]> {
    const changed = this.#readRecords();
    const areStatsSame = this.#stats.read();
    const placeAt: PlaceAt = (pid, fd) => this.#processes.get(pid)?.known.get(fd)?.record.place;
    for (const [pid, { bytes, known: before }] of this.#processes) {
      if (areStatsSame && !changed.has(pid)) continue;
      const known = new Map([...before].map(([fd, one]) => [fd, this.#withStat(pid, one, placeAt)]));
      this.#processes.set(pid, { bytes, known, reads: [...known.values()].map(({ read }) => read) });
    }
    return this.last;
  }

  /** Reads the records of all; gives those of which something has changed. */
  #readRecords(): ReadonlySet<number> {
    const changed = new Set<number>();
    for (const [pid, before] of this.#processes) {
      const bytes = tryRead(this.#program, pid);
      if (bytes !== undefined && before.bytes.equals(bytes)) continue;
      const own = bytes && Buffer.from(bytes);
      const known = own && knownIn(own, before.known);
      changed.add(pid);
      if (own === undefined || known === undefined) this.#processes.delete(pid);
      else this.#processes.set(pid, { bytes: own, known, reads: [] });
    }
    return changed;
  }

  #withStat(pid: number, one: Known, placeAt: PlaceAt): Known {
    const { record, read } = one;
    const { fd, link } = record;
    const stat = record.isPlain && link !== undefined ? this.#stats.of(pid, record, placeAt) : undefined;
    if (read.text?.stat === stat) return one;
    const text = stat === undefined || link === undefined ? undefined : { fd, link, info: infoOf(record), stat };
    return { ...one, read: { ...read, text } };
  }

  [Symbol.dispose](): void {
    this.#stats.close();
  }
}

function tryRead(program: number, pid: number): Buffer | undefined {
  try {
    const bytes = readRecords(program, pid);
    return bytes.length === 0 ? undefined : bytes;
  } catch (error) {
    if (error instanceof KernelError) return undefined; // it has ended
    throw error;
  }
}

/** The records; what was known before where nothing has changed. Undefined when numbers come up more than once. */
function knownIn(all: Buffer, before: ReadonlyMap<number, Known>): ReadonlyMap<number, Known> | undefined {
  const records = new Map<number, Known>();
  let last = -1;
  for (const { start, end } of eachRecord(all)) {
    const bytes = all.subarray(start, end);
    const old = before.get(FileRecord.fdOf(bytes));
    const isSame = old?.bytes.equals(bytes) === true;
    const record = isSame ? old.record : new FileRecord(bytes, 0);
    const { fd, file, link, isOwned } = record;
    if (fd <= last) return undefined;
    last = fd;
    records.set(fd, { bytes, record, read: isSame ? old.read : { fd, file, link, isOwnerless: !isOwned, text: undefined } });
  }
  return records;
}

/** What fdinfo says of a file without more to say. */
function infoOf({ pos, flags, mountId, inodeNumber }: FileRecord): FdInfo {
  const lines = [`pos:\t${pos}`, `flags:\t0${flags.toString(8)}`, `mnt_id:\t${mountId}`, `ino:\t${inodeNumber}`];
  return { flags, pos, mntId: mountId, ino: inodeNumber, lines };
}

/** A descriptor of a process. */
interface Asked {
  readonly pid: number;
  readonly record: FileRecord;
}

/** The attributes of the files behind descriptors, each file once. */
class PlaceStats {
  readonly #calls: PreparedCalls;
  readonly #slots: Buffer;
  readonly #names: Buffer;
  readonly #lanes = new Lanes({ areaBytes: 1, count: 1 });
  /** Of each file: through which descriptor it is asked. */
  readonly #asked: readonly Asked[];
  #before: Buffer | undefined;
  #stats: readonly (FileStat | undefined)[] = [];
  /** Where each place is among them. */
  readonly #byPlace = new Map<string, number>();
  /** Those that were asked by themselves in this run. */
  #others = new Map<string, FileStat | undefined>();

  constructor(descriptors: readonly Asked[]) {
    const asked: Asked[] = [];
    for (const one of descriptors) {
      if (this.#byPlace.has(one.record.place)) continue;
      this.#byPlace.set(one.record.place, asked.length);
      asked.push(one);
    }
    this.#asked = asked;
    const count = asked.length;
    this.#calls = new PreparedCalls({ groups: count, calls: 1 });
    this.#slots = Buffer.allocUnsafeSlow(Math.max(1, count) * STATX_BYTES).fill(0);
    this.#names = Buffer.allocUnsafeSlow(Math.max(1, count) * NAME_BYTES).fill(0);
    const [slots, names] = [addressOf(this.#slots), addressOf(this.#names)];
    asked.forEach(({ pid, record }, i) => {
      this.#names.write(pathOf(pid, record.fd), i * NAME_BYTES, "latin1");
      const [name, into] = [names + BigInt(i * NAME_BYTES), slots + BigInt(i * STATX_BYTES)];
      const args = [BigInt(SYS.statx), BigInt(AT_FDCWD), name, 0n, BigInt(STATX_BASIC_STATS), into];
      this.#calls.put(i, 0, nativeFunction("syscall"), ...args);
    });
  }

  /** Asks for all of them; whether nothing has changed. */
  read(): boolean {
    this.#calls.run(this.#lanes);
    this.#others = new Map();
    const before = this.#before;
    const slots = this.#slots;
    const isOk = this.#asked.every((_, i) => this.#calls.result(i, 0) === 0);
    if (isOk && before?.equals(slots) === true) return true;
    this.#stats = this.#asked.map((_, i) => {
      const at = i * STATX_BYTES;
      if (this.#calls.result(i, 0) !== 0) return undefined;
      const isSame = before?.compare(slots, at, at + STATX_BYTES, at, at + STATX_BYTES) === 0;
      return (isSame ? this.#stats[i] : undefined) ?? new FileStat(slots, at);
    });
    this.#before = Buffer.from(slots);
    return false;
  }

  /** Those of the file of a record. `placeAt`: of which file a descriptor is now. */
  of(pid: number, { fd, place }: FileRecord, placeAt: PlaceAt): FileStat | undefined {
    const i = this.#byPlace.get(place);
    const asked = i === undefined ? undefined : this.#asked[i];
    if (i !== undefined && asked !== undefined && placeAt(asked.pid, asked.record.fd) === place) return this.#stats[i];
    if (!this.#others.has(place)) this.#others.set(place, ask(pid, fd));
    return this.#others.get(place);
  }

  close(): void {
    this.#lanes.close();
  }
}

const pathOf = (pid: number, fd: number) => `/proc/${pid}/fd/${fd}`;

function ask(pid: number, fd: number): FileStat | undefined {
  try {
    return statOf(pathOf(pid, fd));
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

/** Descriptors of our own of every sort: whether what is said of them is what /proc and fcntl(2) say. */
function checkOwn(): boolean {
  const program = fileProgram();
  if (program === undefined) return false;
  const fds: number[] = [];
  const make = () => {
    const fd = memfdCreate("floe-example", MFD_CLOEXEC);
    fds.push(fd);
    return fd;
  };
  try {
    const [plain, locked, owned] = [make(), make(), make()];
    const twin = dupFrom(plain, 0);
    fds.push(twin);
    setDescriptorFlags(twin, 0);
    lseek(plain, EXAMPLE_POSITION, SEEK_SET);
    if (!flock(locked, LOCK_EX)) return false;
    setOwner(owned, { type: F_OWNER_PID, pid: process.pid });
    const bytes = Buffer.from(readRecords(program, process.pid));
    const records = new Map([...eachRecord(bytes)].map(({ start }) => new FileRecord(bytes, start)).map((one) => [one.fd, one]));
    return fds.every((fd) => {
      const record = records.get(fd);
      const info = readFdInfo(process.pid, fd);
      if (record === undefined || record.isPlain !== (fd !== locked) || record.isOwned !== (fd === owned)) return false;
      if (record.link !== readlinkSync(`/proc/self/fd/${fd}`)) return false;
      if ((record.file === records.get(plain)?.file) !== (fd === plain || fd === twin)) return false;
      return infoOf(record).lines.every((line, i) => line === info.lines[i]);
    });
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
/** More than 32 bits have. */
const EXAMPLE_POSITION = 0x1_2345_6789n;
