/**
 * Reading entries of /proc/PID: the file, its parser, and the typed error when the process is gone.
 */
import { readFileSync, readdirSync } from "node:fs";
import { type Vma, parseMaps, parseSmaps } from "./maps.js";
import { type ProcStat, parseStat } from "./stat.js";
import { type ProcStatus, parseStatus } from "./status.js";
import { procTextError } from "./text.js";
import { type ProcTimer, parseTimers } from "./timers.js";

/** Path of an entry of a process, or of one of its threads. */
function entry(name: string, pid: number, tid?: number): string {
  return tid === undefined ? `/proc/${pid}/${name}` : `/proc/${pid}/task/${tid}/${name}`;
}

/** The bytes of a /proc file; throws the typed error when the process is gone. */
export function readProc(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw procTextError(path, error instanceof Error ? error.message : String(error));
  }
}

export function readStat(pid: number, tid?: number): ProcStat {
  const path = entry("stat", pid, tid);
  return parseStat(readProc(path).toString("latin1"), path);
}

export function readStatus(pid: number, tid?: number): ProcStatus {
  const path = entry("status", pid, tid);
  return parseStatus(readProc(path).toString("latin1"), path);
}

export function readMaps(pid: number): Vma[] {
  const path = entry("maps", pid);
  return parseMaps(readProc(path), path);
}

export function readSmaps(pid: number): Vma[] {
  const path = entry("smaps", pid);
  return parseSmaps(readProc(path), path);
}

export function readPosixTimers(pid: number): ProcTimer[] {
  const path = entry("timers", pid);
  return parseTimers(readProc(path).toString("latin1"), path);
}

/** Thread ids of a process, in the kernel's order. */
export function readThreadIds(pid: number): number[] {
  return readdirSync(entry("task", pid)).map(Number);
}
