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

/** Path of an entry of a process, or of one of its threads. */
function entry(name: string, pid: number, tid?: number): string {
  return tid === undefined ? `/proc/${pid}/${name}` : `/proc/${pid}/task/${tid}/${name}`;
}

function open(path: string): number {
  const fd = syscallNumber(SYS.openat, AT_FDCWD, Buffer.from(`${path}\0`), O_CLOEXEC, 0);
  if (fd >= 0) return fd;
  throw kernelError(`open("${path}")`, fd === -ERRNO.ENOENT && isGone(path) ? ERRNO.ESRCH : fd);
}

/** Whether the process (or thread) that `path` belongs to is gone, rather than this one file missing in this kernel. */
function isGone(path: string): boolean {
  const directory = /^\/proc\/\d+(\/task\/\d+)?\//.exec(path)?.[0];
  return directory !== undefined && syscallNumber(SYS.faccessat, AT_FDCWD, Buffer.from(`${directory}\0`), 0) < 0;
}

/** Reads all of `path`; the bytes are good until the next call. */
function readIntoScratch(path: string): Buffer {
  const fd = open(path);
  try {
    let length = 0;
    let at = addressOf(scratch);
    for (;;) {
      const room = scratch.length - length;
      const got = syscallNumber(SYS.read, fd, at + BigInt(length), room);
      if (got === -ERRNO.EINTR) continue;
      if (got === 0) return scratch.subarray(0, length);
      length += checked(got, () => `read("${path}")`);
      if (length < scratch.length) continue;
      if (length >= MAX_CAPACITY_BYTES) throw kernelError(`read("${path}")`, ERRNO.E2BIG);
      scratch = Buffer.concat([scratch], scratch.length * 4);
      at = addressOf(scratch);
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

/** Runs the parser on what the file holds, or returns undefined where this kernel has no such file. */
function parsedIfThere<T>(path: string, parse: (bytes: Buffer, path: string) => T): T | undefined {
  const fd = syscallNumber(SYS.faccessat, AT_FDCWD, Buffer.from(`${path}\0`), 0);
  return fd === -ERRNO.ENOENT && !isGone(path) ? undefined : parsed(path, parse);
}

export function readStat(pid: number, tid?: number): ProcStat {
  return parsed(entry("stat", pid, tid), parseStat);
}

export function readStatus(pid: number, tid?: number): ProcStatus {
  return parsed(entry("status", pid, tid), parseStatus);
}

export function readMaps(pid: number): Vma[] {
  return parsed(entry("maps", pid), parseMaps);
}

/** Mappings with flags. The kernel walks the page tables for it: some milliseconds per GiB of memory in use. */
export function readSmaps(pid: number): Vma[] {
  return parsed(entry("smaps", pid), parseSmaps);
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
  return parsed(entry(`fdinfo/${fd}`, pid), parseFdInfo);
}

/** Every lock of the machine that the reader's pid namespace can see. */
export function readLocks(): FileLock[] {
  return parsed("/proc/locks", parseLocks);
}

/** One number below /proc/sys, as in "kernel/pid_max"; undefined where the kernel has no such file. */
export function readSysctl(name: string): bigint | undefined {
  return parsedIfThere(`/proc/sys/${name}`, parseBigDecimal);
}

/** Numbers below /proc/sys, as in "kernel/sem"; undefined where the kernel has no such file. */
export function readSysctlList(name: string): number[] | undefined {
  return parsedIfThere(`/proc/sys/${name}`, parseDecimals);
}
