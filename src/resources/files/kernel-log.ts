/**
 * Readers of the kernel's log (/dev/kmsg), as those of syslog and the journal: they go on with the record that comes next to them.
 *
 * Read from   the kernel's memory (linux/kernel-log.ts)
 * Made with   lseek(2), read(2) of the records before
 *
 * On another boot, or where the memory may not be looked at, they begin at the beginning, and a warning says so.
 */
import type { BigIntStats } from "node:fs";
import { O_ACCMODE, O_WRONLY } from "../../linux/files.js";
import { KernelLog, goToRecord } from "../../linux/kernel-log.js";
import { readlinkSync } from "../../linux/named-files.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { bootId } from "../namespaces/clocks.js";
import type { DumpSession, Fd, OpenFile, RestoreSession } from "../part.js";
import type { RegFileEntry } from "./regular.schema.js";

/** Device 1:11, as stat(2) numbers it. */
const KMSG = (1n << 8n) | 11n;
const PATH = "/dev/kmsg";

let log: KernelLog | undefined;
let wasTried = false;

function kernelLog(): KernelLog | undefined {
  if (!wasTried) log = KernelLog.open();
  wasTried = true;
  return log;
}

/** Getting ready takes some 30 ms: it is done before the freeze where a process has the log open. */
export function prepareKernelLog(pids: readonly number[]): void {
  if (!wasTried && pids.some(hasLog)) kernelLog();
}

function hasLog(pid: number): boolean {
  try {
    return readFdNumbers(pid).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === PATH);
  } catch {
    return false; // it has ended, or closes what it had
  }
}

export const isKernelLog = ({ rdev }: Pick<BigIntStats, "rdev">): boolean => rdev === KMSG;

/** What the message of a reader says of its place; nothing for any other file. */
export function placeInLog(file: OpenFile, session: DumpSession): Pick<RegFileEntry, "log_next" | "log_boot"> {
  const { stat, info } = file;
  if (!isKernelLog(stat) || (info.flags & O_ACCMODE) === O_WRONLY) return {};
  const next = kernelLog()?.nextOf(file.local);
  if (next !== undefined) return { log_next: next, log_boot: bootId() };
  session.warn(
    `fd ${file.fd} of process ${file.task.pid}: restored, it reads the kernel's log from the beginning: its place cannot be known without BPF and the kernel's type information (BTF)`,
  );
  return {};
}

/** Has a file that was opened again go on where it was. */
export function goOnInLog(fd: Fd, entry: RegFileEntry, session: RestoreSession): void {
  if (entry.log_next === undefined) return;
  if (entry.log_boot === bootId()) goToRecord(fd, entry.log_next);
  else
    session.warn(`${entry.name}: the log of the kernel is another one since the machine has started again; it is read from the beginning`);
}
