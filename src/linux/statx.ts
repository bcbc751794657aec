/**
 * statx(2): struct statx as the kernel fills it, in the form of node:fs, for calls that are not made by node:fs, and with the
 * mount, which node:fs leaves out.
 *
 * Source: uapi/linux/stat.h.
 */
import type { BigIntStats } from "node:fs";
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { AT_FDCWD } from "./files.js";
import { SYS } from "./syscalls.js";
import { cstring } from "./text.js";

export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BYTES = 256;
/** Since Linux 5.8, which gives it whether asked or not. */
const STATX_MNT_ID = 0x1000;

const S_IFMT = 0o170000n;
const NS_PER_MS = 1_000_000n;
const NS_PER_S = 1_000_000_000n;

/** What fstat(2) with bigints of node:fs gives, out of `STATX_BYTES` bytes at `at`. */
export class FileStat implements BigIntStats {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly size: bigint;
  readonly blksize: bigint;
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;
  /** Id of the mount as in /proc/PID/mountinfo. */
  readonly mountId: number;

  constructor(bytes: Buffer, at: number) {
    const u32 = (offset: number) => BigInt(bytes.readUInt32LE(at + offset));
    const u64 = (offset: number) => bytes.readBigUInt64LE(at + offset);
    const time = (offset: number) => bytes.readBigInt64LE(at + offset) * NS_PER_S + u32(offset + 8);
    const device = (offset: number) => makedev(u32(offset), u32(offset + 4));
    this.blksize = u32(4);
    this.nlink = u32(16);
    this.uid = u32(20);
    this.gid = u32(24);
    this.mode = BigInt(bytes.readUInt16LE(at + 28));
    this.ino = u64(32);
    this.size = u64(40);
    this.blocks = u64(48);
    this.atimeNs = time(64);
    this.birthtimeNs = time(80);
    this.ctimeNs = time(96);
    this.mtimeNs = time(112);
    this.rdev = device(128);
    this.dev = device(136);
    this.mountId = Number(u64(144));
  }

  get atimeMs(): bigint {
    return this.atimeNs / NS_PER_MS;
  }
  get mtimeMs(): bigint {
    return this.mtimeNs / NS_PER_MS;
  }
  get ctimeMs(): bigint {
    return this.ctimeNs / NS_PER_MS;
  }
  get birthtimeMs(): bigint {
    return this.birthtimeNs / NS_PER_MS;
  }
  get atime(): Date {
    return new Date(Number(this.atimeMs));
  }
  get mtime(): Date {
    return new Date(Number(this.mtimeMs));
  }
  get ctime(): Date {
    return new Date(Number(this.ctimeMs));
  }
  get birthtime(): Date {
    return new Date(Number(this.birthtimeMs));
  }
  isFile(): boolean {
    return (this.mode & S_IFMT) === 0o100000n;
  }
  isDirectory(): boolean {
    return (this.mode & S_IFMT) === 0o040000n;
  }
  isBlockDevice(): boolean {
    return (this.mode & S_IFMT) === 0o060000n;
  }
  isCharacterDevice(): boolean {
    return (this.mode & S_IFMT) === 0o020000n;
  }
  isSymbolicLink(): boolean {
    return (this.mode & S_IFMT) === 0o120000n;
  }
  isFIFO(): boolean {
    return (this.mode & S_IFMT) === 0o010000n;
  }
  isSocket(): boolean {
    return (this.mode & S_IFMT) === 0o140000n;
  }
}

/** int statx(…) — what the path leads to, symbolic links followed. */
export function statOf(path: string): FileStat {
  const bytes = Buffer.alloc(STATX_BYTES);
  const name = cstring(path);
  checked(syscallNumber(SYS.statx, AT_FDCWD, name, 0, STATX_BASIC_STATS | STATX_MNT_ID, bytes), () => `statx("${path}")`);
  return new FileStat(bytes, 0);
}

/** makedev(3). */
function makedev(major: bigint, minor: bigint): bigint {
  return ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) | (minor & 0xffn);
}
