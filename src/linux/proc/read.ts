/**
 * Reading entries of /proc: the file, its parser, and the typed error when the process is gone.
 *
 * Thousands of small files are read while a tree stands still, so they are read by plain system calls into one buffer
 * that is used again: a quarter of the time of node:fs.
 */
import { ERRNO, checked, kernelError } from "../errno.js";
import { addressOf, syscallNumber } from "../ffi/native.unsafe.js";
import type { Rlimit } from "../limits.js";
import { SYS } from "../syscalls.js";
import { parseAuxv } from "./auxv.js";
import { type CgroupMembership, parseCgroup } from "./cgroup.js";
import { type FdInfo, parseFdInfo } from "./fdinfo.js";
import { type IdMapExtent, parseIdMap } from "./id-map.js";
import { parseLimits } from "./limits.js";
import { type FileLock, parseLocks } from "./locks.js";
import { type Vma, parseMaps, parseSmaps } from "./maps.js";
import { type MountInfo, parseMountinfo } from "./mountinfo.js";
import { type NetSocket, parseNetSockets } from "./net-sockets.js";
import { type ProcStat, parseStat } from "./stat.js";
import { type ProcStatus, parseStatus } from "./status.js";
import { parseComm, parseStrings } from "./strings.js";
import { type ProcSyscall, parseSyscall } from "./syscall.js";
import { type TimeOffsets, parseTimeOffsets } from "./time-offsets.js";
import { type ProcTimer, parseTimers } from "./timers.js";
import { parseBigDecimal, parseDecimal, parseDecimals, parseHex } from "./values.js";

// uapi/linux/fcntl.h, uapi/asm-generic/fcntl.h
const AT_FDCWD = -100;
const O_CLOEXEC = 0o2000000;

const FIRST_CAPACITY_BYTES = 64 * 1024;
/** No file of /proc that Floe reads comes near: 2 million mappings in smaps are 1.4 GiB. */
const MAX_CAPACITY_BYTES = 2 ** 31;
let scratch = Buffer.alloc(FIRST_CAPACITY_BYTES);
let scratchAddress = addressOf(scratch);

/** Path of an entry of a process, or of one of its threads. */
function entry(name: string, pid: number, tid?: number): string {
  return tid === undefined ? `/proc/${pid}/${name}` : `/proc/${pid}/task/${tid}/${name}`;
}

const pathMemory = Buffer.alloc(256);
const pathAddress = addressOf(pathMemory);

/** Opens a file of /proc: all paths are short and plain. */
function tryOpen(path: string): number {
  pathMemory[pathMemory.write(path, 0, pathMemory.length - 1, "latin1")] = 0;
  return syscallNumber(SYS.openat, AT_FDCWD, pathAddress, O_CLOEXEC, 0);
}

function opened(fd: number, path: string): number {
  if (fd >= 0) return fd;
  throw kernelError(`open("${path}")`, fd === -ERRNO.ENOENT && isGone(path) ? ERRNO.ESRCH : fd);
}

/** Whether the process (or thread) that `path` belongs to is gone, rather than this one file missing in this kernel. */
function isGone(path: string): boolean {
  const directory = /^\/proc\/\d+(\/task\/\d+)?\//.exec(path)?.[0];
  return directory !== undefined && syscallNumber(SYS.faccessat, AT_FDCWD, Buffer.from(`${directory}\0`), 0) < 0;
}

/**
 * Reads all of `path`; the bytes are good until the next call. `isSingle`: the file is one record for the kernel
 * (single_open), which comes whole with the first read if there is room for it.
 */
function readIntoScratch(path: string, isSingle = false): Buffer {
  return readDescriptor(opened(tryOpen(path), path), path, isSingle);
}

/** Reads all of `fd` and closes it. */
function readDescriptor(fd: number, path: string, isSingle: boolean): Buffer {
  try {
    let length = 0;
    for (;;) {
      const room = scratch.length - length;
      const got = syscallNumber(SYS.read, fd, length === 0 ? scratchAddress : scratchAddress + BigInt(length), room);
      if (got === -ERRNO.EINTR) continue;
      if (got === 0) return scratch.subarray(0, length);
      length += checked(got, () => `read("${path}")`);
      if (length < scratch.length) {
        if (isSingle) return scratch.subarray(0, length);
        continue;
      }
      if (length >= MAX_CAPACITY_BYTES) throw kernelError(`read("${path}")`, ERRNO.E2BIG);
      scratch = Buffer.concat([scratch], scratch.length * 4);
      scratchAddress = addressOf(scratch);
    }
  } finally {
    syscallNumber(SYS.close, fd);
  }
}

/** The bytes of a /proc file. Throws ESRCH when its process is gone, ENOENT when the kernel has no such file. */
export function readProc(path: string): Buffer {
  return Buffer.from(readIntoScratch(path));
}

function parsed<T>(path: string, parse: (bytes: Buffer, path: string) => T): T {
  return parse(readIntoScratch(path), path);
}

/** What a file said, byte for byte, and what that means. */
export interface ReadText<T> {
  readonly text: Buffer;
  readonly value: T;
}

/** What is the same as `before`, byte for byte, is not taken apart again. */
function readAgain<T>(path: string, parse: (bytes: Buffer, path: string) => T, before: ReadText<T> | undefined): ReadText<T> {
  const bytes = readIntoScratch(path);
  return before !== undefined && bytes.equals(before.text) ? before : { text: Buffer.from(bytes), value: parse(bytes, path) };
}

/** {@link parsed} for files of a single record. */
function parsedSingle<T>(path: string, parse: (bytes: Buffer, path: string) => T): T {
  return parse(readIntoScratch(path, true), path);
}

/** Runs the parser on what the file holds, or returns undefined where this kernel has no such file. */
function parsedIfThere<T>(path: string, parse: (bytes: Buffer, path: string) => T): T | undefined {
  const fd = tryOpen(path);
  if (fd === -ERRNO.ENOENT && !isGone(path)) return undefined;
  return parse(readDescriptor(opened(fd, path), path, false), path);
}

export function readStat(pid: number, tid?: number): ProcStat {
  return parsedSingle(entry("stat", pid, tid), parseStat);
}

export function readStatus(pid: number, tid?: number): ProcStatus {
  return parsedSingle(entry("status", pid, tid), parseStatus);
}

export function readMaps(pid: number): Vma[] {
  return parsed(entry("maps", pid), parseMaps);
}

/** How long the list of mappings is, up to `mostBytes`. */
export function readMapsHead(pid: number, mostBytes: number): number {
  const path = entry("maps", pid);
  const fd = opened(tryOpen(path), path);
  try {
    let length = 0;
    while (length < mostBytes) {
      const got = syscallNumber(SYS.read, fd, scratchAddress, scratch.length);
      if (got <= 0) break;
      length += got;
    }
    return length;
  } finally {
    syscallNumber(SYS.close, fd);
  }
}

/** Mappings with flags. The kernel walks the page tables for it: some milliseconds per GiB of memory in use. */
export function readSmaps(pid: number): Vma[] {
  return parsed(entry("smaps", pid), parseSmaps);
}

/** {@link readMaps}; the same object as `before` when nothing has changed. */
export function readMapsAgain(pid: number, before?: ReadText<Vma[]>): ReadText<Vma[]> {
  return readAgain(entry("maps", pid), parseMaps, before);
}

/** {@link readSmaps}; the same object as `before` when nothing has changed. */
export function readSmapsAgain(pid: number, before?: ReadText<Vma[]>): ReadText<Vma[]> {
  return readAgain(entry("smaps", pid), parseSmaps, before);
}

export function readPosixTimers(pid: number): ProcTimer[] {
  return parsed(entry("timers", pid), parseTimers);
}

/**
 * Whether numa_maps shows a NUMA policy other than the default, be it that of a mapping or of the main thread. The kernel
 * looks at every page for it. Without NUMA there is no such file.
 */
export function showsMemoryPolicies(pid: number): boolean {
  return parsedIfThere(entry("numa_maps", pid), (bytes) => /^[0-9a-f]+ (?!default\b)/m.test(bytes.toString("latin1"))) ?? false;
}

/**
 * Bytes of its anonymous memory that a process shares with others (since a fork, or by KSM), as far as the kernel's shares tell;
 * undefined where it does not say. The kernel walks the page tables for it.
 */
export function readSharedAnonymousBytes(pid: number): number | undefined {
  return parsedIfThere(entry("smaps_rollup", pid), (bytes) => {
    const text = bytes.toString("latin1");
    const kib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1] ?? Number.NaN);
    const shared = (kib("Anonymous") - kib("Pss_Anon")) * 1024;
    return Number.isNaN(shared) ? undefined : shared;
  });
}

/** How much memory a process has in use, from statm. */
export function readRssBytes(pid: number): number {
  return parsed(entry("statm", pid), (bytes) => Number(bytes.toString("latin1").split(" ")[1] ?? 0) * 4096);
}

/** The limits, indexed by RLIMIT_…. */
export function readLimits(pid: number): Rlimit[] {
  return parsed(entry("limits", pid), parseLimits);
}

export function readMountinfo(pid: number): MountInfo[] {
  return parsed(entry("mountinfo", pid), parseMountinfo);
}

export function readCgroup(pid: number, tid?: number): CgroupMembership[] {
  return parsed(entry("cgroup", pid, tid), parseCgroup);
}

/** Type and value in turn. */
export function readAuxv(pid: number): bigint[] {
  return parsed(entry("auxv", pid), parseAuxv);
}

export function readCmdline(pid: number): string[] {
  return parsed(entry("cmdline", pid), parseStrings);
}

export function readEnviron(pid: number): string[] {
  return parsed(entry("environ", pid), parseStrings);
}

export function readComm(pid: number, tid?: number): string {
  return parsed(entry("comm", pid, tid), parseComm);
}

/** personality(2) of a process or thread. */
export function readPersonality(pid: number, tid?: number): number {
  return parsed(entry("personality", pid, tid), parseHex);
}

export function readOomScoreAdj(pid: number): number {
  return parsed(entry("oom_score_adj", pid), parseDecimal);
}

/** Which kinds of mapping go into a core dump, core(5). */
export function readCoredumpFilter(pid: number): number {
  return parsed(entry("coredump_filter", pid), parseHex);
}

/** Audit login uid; 4294967295 when not set; undefined without CONFIG_AUDIT. */
export function readLoginuid(pid: number): number | undefined {
  return parsedIfThere(entry("loginuid", pid), parseDecimal);
}

/** Undefined without CONFIG_TIME_NS. */
export function readTimeOffsets(pid: number): TimeOffsets | undefined {
  return parsedIfThere(entry("timens_offsets", pid), parseTimeOffsets);
}

export function readUidMap(pid: number): IdMapExtent[] {
  return parsed(entry("uid_map", pid), parseIdMap);
}

export function readGidMap(pid: number): IdMapExtent[] {
  return parsed(entry("gid_map", pid), parseIdMap);
}

export function readSyscall(pid: number, tid?: number): ProcSyscall {
  return parsed(entry("syscall", pid, tid), parseSyscall);
}

/** Children that thread `tid` (by default the leader) made or adopted. Exact only while they stand still. */
export function readChildren(pid: number, tid = pid): number[] {
  return parsed(entry("children", pid, tid), parseDecimals);
}

export function readFdInfo(pid: number, fd: number): FdInfo {
  return parsedSingle(entry(`fdinfo/${fd}`, pid), parseFdInfo);
}

/** Every lock of the machine that the reader's pid namespace can see. */
export function readLocks(): FileLock[] {
  return parsed("/proc/locks", parseLocks);
}

/** Raw or ping sockets of the network namespace of a process, by inode. None where the kernel has no such file. */
export function readNetSockets(pid: number, name: "raw" | "raw6" | "icmp" | "icmp6"): Map<number, NetSocket> {
  return parsedIfThere(entry(`net/${name}`, pid), parseNetSockets) ?? new Map();
}

/** One number below /proc/sys, as in "kernel/pid_max"; undefined where the kernel has no such file. */
export function readSysctl(name: string): bigint | undefined {
  return parsedIfThere(`/proc/sys/${name}`, parseBigDecimal);
}

/** Numbers below /proc/sys, as in "kernel/sem"; undefined where the kernel has no such file. */
export function readSysctlList(name: string): number[] | undefined {
  return parsedIfThere(`/proc/sys/${name}`, parseDecimals);
}
