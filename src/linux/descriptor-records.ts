/**
 * What the kernel says about all descriptors of a process, by one run of a program in the kernel (descriptor-program.ts) and a native run of
 * statx(2) for each file behind them: a microsecond for a descriptor, where the files of /proc take nine (descriptor-texts.ts).
 *
 * Every run reads all of it. What is the same as at an earlier run, byte for byte, need not be taken apart again.
 */
import { closeSync, readlinkSync } from "node:fs";
import { KernelError } from "../errors.js";
import { type DescriptorReader, type DescriptorText, type ReadDescriptor, openFolder } from "./descriptor-texts.js";
import { FileRecord, eachRecord, fileProgram, readRecords } from "./descriptor-program.js";
import { F_OWNER_PID, LOCK_EX, dupFrom, flock, setDescriptorFlags, setOwner } from "./fcntl.js";
import { addressOf } from "./ffi/native.unsafe.js";
import { SEEK_SET, lseek } from "./files.js";
import { Lanes, nativeFunction } from "./lanes.js";
import { MFD_CLOEXEC, memfdCreate } from "./memory.js";
import { PreparedCalls } from "./prepared-calls.js";
import type { FdInfo } from "./proc/fdinfo.js";
import { readFdInfo } from "./proc/read.js";
import { FileStat, STATX_BASIC_STATS, STATX_BYTES, statOf } from "./statx.js";
import { SYS } from "./syscalls.js";

const NAME_BYTES = 16;
/** No more, as of texts. */
const MOST = 16384;

/** A descriptor as it was read, and the bytes that it was read from. */
interface Known {
  readonly bytes: Buffer;
  readonly record: FileRecord;
  readonly read: ReadDescriptor;
}

let isTrusted: boolean | undefined;

/** Whether the kernel has what it takes, and what is said of descriptors of our own is true. */
function canRead(): boolean {
  isTrusted ??= checkOwn();
  return isTrusted;
}

export class DescriptorRecords implements DescriptorReader {
  readonly pid: number;
  readonly #program: number;
  #bytes: Buffer;
  #known: ReadonlyMap<number, Known>;
  #reads: readonly ReadDescriptor[] = [];
  readonly #stats: PlaceStats;

  private constructor(pid: number, program: number) {
    this.pid = pid;
    this.#program = program;
    this.#bytes = Buffer.from(readRecords(program, pid));
    const records = [...eachRecord(this.#bytes)].map(({ start }) => new FileRecord(this.#bytes, start));
    this.#known = new Map();
    this.#stats = new PlaceStats(pid, records);
  }

  /** Of a running process: prepares, and reads once. Undefined where the kernel cannot, or there are too many, or the process ends. */
  static of(pid: number): DescriptorRecords | undefined {
    const program = canRead() ? fileProgram() : undefined;
    if (program === undefined) return undefined;
    let made: DescriptorRecords | undefined;
    try {
      made = new DescriptorRecords(pid, program);
      const read = made.read();
      if (read !== undefined && read.length > 0 && read.length <= MOST) return made;
    } catch {
      // It has ended, or changes too fast.
    }
    made?.[Symbol.dispose]();
    return undefined;
  }

  get last(): readonly DescriptorText[] {
    return this.#reads.flatMap(({ text }) => text ?? []);
  }

  ownerless(): ReadonlySet<number> {
    return new Set([...this.#known.values()].filter(({ record }) => !record.isOwned).map(({ record }) => record.fd));
  }

  /** Undefined when the threads of the process have different tables. */
  read(): readonly ReadDescriptor[] | undefined {
    const bytes = readRecords(this.#program, this.pid);
    const isSame = this.#known.size > 0 && this.#bytes.equals(bytes);
    const areStatsSame = this.#stats.read();
    if (isSame && areStatsSame) return this.#reads;
    if (!isSame) this.#bytes = Buffer.from(bytes);
    const records = this.#records();
    if (records === undefined) return undefined;
    const placeAt = (fd: number) => records.get(fd)?.record.place;
    this.#known = new Map([...records].map(([fd, one]) => [fd, this.#withStat(one, placeAt)]));
    this.#reads = [...this.#known.values()].map(({ read }) => read);
    return this.#reads;
  }

  /** As they are now; what was known before where nothing has changed. */
  #records(): ReadonlyMap<number, Known> | undefined {
    const records = new Map<number, Known>();
    let last = -1;
    for (const { start, end } of eachRecord(this.#bytes)) {
      const bytes = this.#bytes.subarray(start, end);
      const before = this.#known.get(FileRecord.fdOf(bytes));
      const isSame = before?.bytes.equals(bytes) === true;
      const record = isSame ? before.record : new FileRecord(bytes, 0);
      const { fd, file, link } = record;
      if (fd <= last) return undefined;
      last = fd;
      records.set(fd, { bytes, record, read: isSame ? before.read : { fd, file, link, text: undefined } });
    }
    return records;
  }

  #withStat(one: Known, placeAt: (fd: number) => string | undefined): Known {
    const { record, read } = one;
    const { fd, link } = record;
    const stat = record.isPlain && link !== undefined ? this.#stats.of(record, placeAt) : undefined;
    if (read.text?.stat === stat) return one;
    const text = stat === undefined || link === undefined ? undefined : { fd, link, info: infoOf(record), stat };
    return { ...one, read: { ...read, text } };
  }

  [Symbol.dispose](): void {
    this.#stats.close();
  }
}

/** What fdinfo says of a file without more to say. */
function infoOf({ pos, flags, mountId, inodeNumber }: FileRecord): FdInfo {
  const lines = [`pos:\t${pos}`, `flags:\t0${flags.toString(8)}`, `mnt_id:\t${mountId}`, `ino:\t${inodeNumber}`];
  return { flags, pos, mntId: mountId, ino: inodeNumber, lines };
}

/** The attributes of the files behind the descriptors of a process, each file once. */
class PlaceStats {
  readonly #pid: number;
  readonly #folder: number;
  readonly #calls: PreparedCalls;
  readonly #slots: Buffer;
  readonly #names: Buffer;
  readonly #lanes = new Lanes({ areaBytes: 1, count: 1 });
  /** Of each file: through which descriptor it is asked. */
  readonly #asked: readonly FileRecord[];
  #before: Buffer | undefined;
  #stats: readonly (FileStat | undefined)[] = [];
  /** Where each place is among them; those that are asked by themselves come to it. */
  readonly #byPlace = new Map<string, number>();
  #others = new Map<string, FileStat | undefined>();

  constructor(pid: number, records: readonly FileRecord[]) {
    this.#pid = pid;
    for (const { place } of records) if (!this.#byPlace.has(place)) this.#byPlace.set(place, this.#byPlace.size);
    const first = new Map(records.map((record) => [record.place, record] as const).reverse());
    this.#asked = [...this.#byPlace.keys()].flatMap((place) => first.get(place) ?? []);
    const count = this.#asked.length;
    this.#calls = new PreparedCalls({ groups: count, calls: 1 });
    this.#slots = Buffer.allocUnsafeSlow(count * STATX_BYTES).fill(0);
    this.#names = Buffer.allocUnsafeSlow(count * NAME_BYTES).fill(0);
    this.#folder = openFolder(`/proc/${pid}/fd`);
    const [slots, names] = [addressOf(this.#slots), addressOf(this.#names)];
    this.#asked.forEach(({ fd }, i) => {
      this.#names.write(String(fd), i * NAME_BYTES, "latin1");
      const [name, into] = [names + BigInt(i * NAME_BYTES), slots + BigInt(i * STATX_BYTES)];
      const args = [BigInt(SYS.statx), BigInt(this.#folder), name, 0n, BigInt(STATX_BASIC_STATS), into];
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
  of({ fd, place }: FileRecord, placeAt: (fd: number) => string | undefined): FileStat | undefined {
    const i = this.#byPlace.get(place);
    const asked = i === undefined ? undefined : this.#asked[i];
    if (i !== undefined && asked !== undefined && placeAt(asked.fd) === place) return this.#stats[i];
    if (!this.#others.has(place)) this.#others.set(place, this.#ask(fd));
    return this.#others.get(place);
  }

  #ask(fd: number): FileStat | undefined {
    try {
      return statOf(`/proc/${this.#pid}/fd/${fd}`);
    } catch (error) {
      if (error instanceof KernelError) return undefined;
      throw error;
    }
  }

  close(): void {
    closeSync(this.#folder);
    this.#lanes.close();
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
    const bytes = readRecords(program, process.pid);
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
