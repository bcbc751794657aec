/**
 * perf_event_open(2) on tracepoints: how often a thread, and whatever it has created since, came by one.
 *
 * The events are named by /sys/kernel/tracing/events, of which we take a tracefs of our own that is mounted nowhere: not every
 * machine has one mounted. Needs CAP_PERFMON and CAP_SYS_ADMIN. Constants: uapi/linux/perf_event.h, uapi/linux/mount.h.
 */
import { closeSync, readFileSync, readSync } from "node:fs";
import { checked } from "./errno.js";
import { close } from "./files.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const PERF_TYPE_TRACEPOINT = 2;
const PERF_FLAG_FD_CLOEXEC = 8;
/** struct perf_event_attr, bit field at 40: inherit. */
const INHERIT = 2n;
const ATTR_BYTES = 112;
const PERF_EVENT_IOC_SET_FILTER = 0x4008_2406;
const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_CMD_CREATE = 6;
const COUNT_BYTES = 8;

/** A kind of event, by its folder in tracefs, and which of them count. */
export interface Tracepoint {
  readonly name: string;
  /** An expression over the event's fields: Documentation/trace/events.rst. */
  readonly filter: string;
}

/** The numbers of tracepoints, in their order; throws where the kernel does not have one of them. */
export function tracepointIds(tracepoints: readonly Tracepoint[]): number[] {
  const context = checked(syscallNumber(SYS.fsopen, Buffer.from("tracefs\0"), FSOPEN_CLOEXEC), () => 'fsopen("tracefs")');
  let root: number;
  try {
    checked(syscallNumber(SYS.fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0), () => "fsconfig(FSCONFIG_CMD_CREATE)");
    root = checked(syscallNumber(SYS.fsmount, context, FSMOUNT_CLOEXEC, 0), () => "fsmount(tracefs)");
  } finally {
    close(context);
  }
  try {
    return tracepoints.map(({ name }) => Number(readFileSync(`/proc/self/fd/${root}/events/${name}/id`, "latin1")));
  } finally {
    closeSync(root);
  }
}

/** perf_event_open(2), ioctl(PERF_EVENT_IOC_SET_FILTER) — a descriptor that counts from now on what thread `tid` and its descendants do. */
export function countEvents(tid: number, { id, filter }: { readonly id: number; readonly filter: string }): number {
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(PERF_TYPE_TRACEPOINT, 0);
  attr.writeUInt32LE(ATTR_BYTES, 4);
  attr.writeBigUInt64LE(BigInt(id), 8);
  attr.writeBigUInt64LE(INHERIT, 40);
  const fd = checked(
    syscallNumber(SYS.perf_event_open, attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC),
    () => `perf_event_open(tracepoint ${id}, ${tid})`,
  );
  try {
    checked(
      syscallNumber(SYS.ioctl, fd, PERF_EVENT_IOC_SET_FILTER, Buffer.from(`${filter}\0`)),
      () => `ioctl(${fd}, PERF_EVENT_IOC_SET_FILTER)`,
    );
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** How many were counted. */
export function countOf(fd: number): bigint {
  const bytes = Buffer.alloc(COUNT_BYTES);
  readSync(fd, bytes, 0, COUNT_BYTES, null);
  return bytes.readBigUInt64LE(0);
}
