/**
 * What the kernel says about all descriptors of a process, by native runs over prepared tables (lanes.ts) instead of ten calls from
 * JavaScript for each: the tables are made while the process runs, and executed while it stands still.
 *
 * What is byte for byte the same as at an earlier run need not be taken apart again. Nothing else is kept from one run to the next: each
 * reads all links, all of fdinfo, and the attributes of all files.
 */
import { type BigIntStats, closeSync } from "node:fs";
import { F_GETOWN_EX, F_GETSIG } from "./fcntl.js";
import { addressOf } from "./ffi/native.unsafe.js";
import { AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH, openat } from "./files.js";
import { Lanes, nativeFunction } from "./lanes.js";
import { PreparedCalls, RESULT } from "./prepared-calls.js";
import { type FdInfo, parseFdInfo } from "./proc/fdinfo.js";
import { readFdNumbers } from "./proc/list.js";
import { FileStat, STATX_BASIC_STATS, STATX_BYTES } from "./statx.js";
import { SYS } from "./syscalls.js";
import { textOf } from "./text.js";

/** What the kernel says about a descriptor. */
export interface DescriptorText {
  readonly fd: number;
  /** The link in /proc. */
  readonly link: string;
  readonly info: FdInfo;
  readonly stat: BigIntStats;
}

/** A descriptor, and what has been read, if it could be read this way: long texts cannot. */
export interface ReadDescriptor {
  readonly fd: number;
  /** Which open file description it is, where that is known: equal for those that are one. */
  readonly file?: number;
  /** Whether it is known to have neither an owner nor a signal. */
  readonly isOwnerless?: boolean;
  /** The link in /proc, where it is known without the rest. */
  readonly link?: string | undefined;
  readonly text: DescriptorText | undefined;
}

/** The calls for the texts of one descriptor. */
const TEXT = { unfinish: 0, open: 1, toRead: 2, toClose: 3, read: 4, readlink: 5, statx: 6, close: 7, end: 8 };
const GROUP_CALLS = 9;
/** Those for its owner. */
const OWNER = { unfinish: 0, toTake: 1, take: 2, toOwner: 3, toSignal: 4, toClose: 5, owner: 6, signal: 7, close: 8, end: 9 };

const NR = {
  openat: BigInt(SYS.openat),
  read: BigInt(SYS.read),
  readlinkat: BigInt(SYS.readlinkat),
  statx: BigInt(SYS.statx),
  close: BigInt(SYS.close),
  pidfd_getfd: BigInt(SYS.pidfd_getfd),
  fcntl: BigInt(SYS.fcntl),
};
const syscall = () => nativeFunction("syscall");
const memcpy = () => nativeFunction("memcpy");
const memset = () => nativeFunction("memset");

/** Room for a text; a longer one is read by itself. */
const ROOM_BYTES = 256;
const LINK_OFFSET = ROOM_BYTES;
const STAT_OFFSET = 2 * ROOM_BYTES;
const SLOT_BYTES = STAT_OFFSET + STATX_BYTES;
const NAME_BYTES = 16;
const OWNER_BYTES = 8;
/** So much memory, some 50 MiB, is worth it. */
const MOST = 16384;

export class DescriptorTexts implements Disposable {
  readonly pid: number;
  readonly #fds: readonly number[];
  readonly #folders: readonly number[];
  readonly #texts: PreparedCalls;
  readonly #owners: PreparedCalls;
  readonly #slots: Buffer;
  readonly #names: Buffer;
  readonly #owned: Buffer;
  /** Of the process, while it stands still. */
  readonly #pidfd = Buffer.allocUnsafeSlow(8);
  readonly #lanes = new Lanes({ areaBytes: 1, count: 1 });
  /** What the last run read, and what it means. */
  #before: { readonly slots: Buffer; readonly texts: readonly ReadDescriptor[] };

  private constructor(pid: number, fds: readonly number[], folders: readonly number[]) {
    this.pid = pid;
    this.#fds = fds;
    this.#folders = folders;
    this.#texts = new PreparedCalls({ groups: fds.length, calls: GROUP_CALLS });
    this.#owners = new PreparedCalls({ groups: fds.length, calls: GROUP_CALLS });
    this.#slots = Buffer.allocUnsafeSlow(fds.length * SLOT_BYTES).fill(0);
    this.#names = Buffer.allocUnsafeSlow(fds.length * NAME_BYTES).fill(0);
    this.#owned = Buffer.allocUnsafeSlow(fds.length * OWNER_BYTES);
    this.#before = { slots: Buffer.alloc(0), texts: [] };
    this.#prepareTexts();
    this.#prepareOwners();
  }

  /** Of a running process: prepares, and reads once. Undefined when it has too many descriptors, or ends meanwhile. */
  static of(pid: number): DescriptorTexts | undefined {
    const folders: number[] = [];
    let texts: DescriptorTexts | undefined;
    try {
      const fds = readFdNumbers(pid);
      if (fds.length === 0 || fds.length > MOST) return undefined;
      for (const name of ["fdinfo", "fd"])
        folders.push(openat(AT_FDCWD, `/proc/${pid}/${name}`, { flags: O_PATH | O_DIRECTORY | O_CLOEXEC }));
      texts = new DescriptorTexts(pid, fds, folders);
      texts.read();
      return texts;
    } catch {
      if (texts === undefined) for (const fd of folders) closeSync(fd);
      texts?.[Symbol.dispose]();
      return undefined;
    }
  }

  /** What the last run has read. The same object as of an earlier run: nothing of it has changed. */
  get last(): readonly ReadDescriptor[] {
    return this.#before.texts;
  }

  #prepareTexts(): void {
    const [folder = -1, links = -1] = this.#folders.map(BigInt);
    const [slots, names] = [addressOf(this.#slots), addressOf(this.#names)];
    const calls = this.#texts;
    this.#fds.forEach((fd, i) => {
      this.#names.write(String(fd), i * NAME_BYTES, "latin1");
      const name = names + BigInt(i * NAME_BYTES);
      const slot = slots + BigInt(i * SLOT_BYTES);
      const opened = calls.at(i, TEXT.open, RESULT);
      calls.put(i, TEXT.unfinish, memset(), calls.at(i, TEXT.close, RESULT), 0xffn, 8n);
      calls.put(i, TEXT.open, syscall(), NR.openat, folder as bigint, name, BigInt(O_CLOEXEC), 0n);
      calls.put(i, TEXT.toRead, memcpy(), calls.at(i, TEXT.read, 2), opened, 8n);
      calls.put(i, TEXT.toClose, memcpy(), calls.at(i, TEXT.close, 2), opened, 8n);
      calls.put(i, TEXT.read, syscall(), NR.read, 0n, slot, BigInt(ROOM_BYTES));
      calls.put(i, TEXT.readlink, syscall(), NR.readlinkat, links as bigint, name, slot + BigInt(LINK_OFFSET), BigInt(ROOM_BYTES));
      const into = slot + BigInt(STAT_OFFSET);
      calls.put(i, TEXT.statx, syscall(), NR.statx, links as bigint, name, 0n, BigInt(STATX_BASIC_STATS), into);
      calls.put(i, TEXT.close, syscall(), NR.close);
    });
  }

  #prepareOwners(): void {
    const [owned, pidfd] = [addressOf(this.#owned), addressOf(this.#pidfd)];
    const calls = this.#owners;
    this.#fds.forEach((fd, i) => {
      const taken = calls.at(i, OWNER.take, RESULT);
      calls.put(i, OWNER.unfinish, memset(), calls.at(i, OWNER.close, RESULT), 0xffn, 8n);
      calls.put(i, OWNER.toTake, memcpy(), calls.at(i, OWNER.take, 2), pidfd, 8n);
      calls.put(i, OWNER.take, syscall(), NR.pidfd_getfd, 0n, BigInt(fd), 0n);
      calls.put(i, OWNER.toOwner, memcpy(), calls.at(i, OWNER.owner, 2), taken, 8n);
      calls.put(i, OWNER.toSignal, memcpy(), calls.at(i, OWNER.signal, 2), taken, 8n);
      calls.put(i, OWNER.toClose, memcpy(), calls.at(i, OWNER.close, 2), taken, 8n);
      calls.put(i, OWNER.owner, syscall(), NR.fcntl, 0n, BigInt(F_GETOWN_EX), owned + BigInt(i * OWNER_BYTES));
      calls.put(i, OWNER.signal, syscall(), NR.fcntl, 0n, BigInt(F_GETSIG));
      calls.put(i, OWNER.close, syscall(), NR.close);
    });
  }

  /**
   * The descriptors that are certain to have neither an owner nor a signal (fcntl(2), F_SETOWN, F_SETSIG). The process must stand still:
   * each is duplicated for a moment.
   */
  ownerless(pidfd: number): ReadonlySet<number> {
    const calls = this.#owners;
    this.#pidfd.writeBigUInt64LE(BigInt(pidfd));
    calls.run(this.#lanes);
    const found = new Set<number>();
    this.#fds.forEach((fd, i) => {
      const taken = calls.result(i, OWNER.take);
      if (calls.result(i, OWNER.close) !== 0) {
        if (taken >= 0) closeSync(taken);
      } else if (calls.result(i, OWNER.signal) === 0 && this.#owned.readInt32LE(i * OWNER_BYTES + 4) === 0) found.add(fd);
    });
    return found;
  }

  /** Reads all of them now: undefined when the process has other descriptors than when this was made. */
  read(): readonly ReadDescriptor[] | undefined {
    const fds = readFdNumbers(this.pid);
    if (fds.length !== this.#fds.length || !fds.every((fd, i) => fd === this.#fds[i])) return undefined;
    this.#texts.run(this.#lanes);
    const { slots: old, texts: known } = this.#before;
    const slots = this.#slots;
    this.#endSlots();
    const isSame = old.length === slots.length && slots.equals(old);
    const texts = isSame
      ? known
      : this.#fds.map((fd, i) => (this.#isSlotOf(i, old) ? known[i] : undefined) ?? { fd, text: this.#parse(fd, i) });
    this.#before = { slots: isSame ? old : Buffer.from(slots), texts };
    return texts;
  }

  /** Ends each text with a zero byte, and one that has not been read, or not whole, is made empty. */
  #endSlots(): void {
    const slots = this.#slots;
    const calls = this.#texts;
    for (let i = 0; i < this.#fds.length; i++) {
      const at = i * SLOT_BYTES;
      let info = calls.result(i, TEXT.read);
      let link = calls.result(i, TEXT.readlink);
      if (calls.result(i, TEXT.close) !== 0) {
        const opened = calls.result(i, TEXT.open);
        if (opened >= 0) closeSync(opened);
        info = 0;
        link = 0;
      }
      if (info >= ROOM_BYTES || link >= ROOM_BYTES) info = 0;
      slots[at + info] = 0;
      slots[at + LINK_OFFSET + (link >= ROOM_BYTES ? 0 : link)] = 0;
    }
  }

  #isSlotOf(i: number, old: Buffer): boolean {
    const at = i * SLOT_BYTES;
    return old.length !== 0 && this.#slots.compare(old, at, at + SLOT_BYTES, at, at + SLOT_BYTES) === 0;
  }

  #parse(fd: number, i: number): DescriptorText | undefined {
    const at = i * SLOT_BYTES;
    const info = this.#slots.subarray(at, this.#slots.indexOf(0, at));
    const link = at + LINK_OFFSET;
    if (info.length === 0) return undefined;
    return {
      fd,
      link: textOf(this.#slots.subarray(link, this.#slots.indexOf(0, link))),
      info: parseFdInfo(info, `/proc/${this.pid}/fdinfo/${fd}`),
      stat: new FileStat(this.#slots, at + STAT_OFFSET),
    };
  }

  [Symbol.dispose](): void {
    for (const fd of this.#folders) closeSync(fd);
    this.#lanes.close();
  }
}
