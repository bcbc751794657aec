/**
 * What fdinfo says of a ring of io_uring: its counters, what is under way, registered files and buffers; and waiting for it
 * to have nothing to do.
 */
import { readdirSync } from "node:fs";
import { type FdInfo, fdInfoField } from "../../linux/proc/fdinfo.js";
import type { Vma } from "../../linux/proc/maps.js";
import { readProcLink } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";

export const RING_LINK = "anon_inode:[io_uring]";
const COUNTERS = 2 ** 32;
/** How long a tree that still runs may take to get its requests done, in milliseconds. */
const LOOK_MS = 500;
const NAP_MS = 2;

export function isRing(vma: Vma): boolean {
  return vma.name === RING_LINK;
}

const field = (info: FdInfo, name: string) => Number(fdInfoField(info, name) ?? 0);
/** Counters run round at 32 bits. */
const behind = (ahead: number, back: number) => (ahead - back + COUNTERS) % COUNTERS;

/** Requests that the kernel has taken and not completed yet, as far as the counters tell. */
const underWay = (info: FdInfo) => behind(field(info, "CachedSqHead"), field(info, "CachedCqTail"));

/** What a ring is busy with, in words. */
export function stateOfRing(info: FdInfo): string {
  if (fdInfoField(info, "CachedSqHead") === undefined) return "the kernel is at work on it";
  const waiting = underWay(info);
  const unread = behind(field(info, "CqTail"), field(info, "CqHead"));
  const polls = listed(info, "PollList").length;
  const overflown = listed(info, "CqOverflowList").length;
  const thread = field(info, "SqThread");
  const words = [
    ...(waiting > 0 ? [`${waiting} more requests were made than completed`] : ["no request is under way"]),
    ...(polls > 0 ? [`${polls} wait for a file to be ready`] : []),
    ...(overflown > 0 ? [`${overflown} completions found no room`] : []),
    ...(unread > 0 ? [`${unread} completions are unread`] : []),
    ...(thread > 0 ? [`thread ${thread} of the kernel serves it`] : []),
  ];
  return words.join(", ");
}

/** Whether every request that was taken has been answered, and every answer is in the ring. */
export function isIdle(info: FdInfo): boolean {
  return (
    fdInfoField(info, "CachedSqHead") !== undefined &&
    underWay(info) === 0 &&
    field(info, "CqTail") === field(info, "CachedCqTail") &&
    listed(info, "PollList").length === 0 &&
    listed(info, "CqOverflowList").length === 0
  );
}

/** The lines below the line `name:`, which are indented. */
function listed(info: FdInfo, name: string): string[] {
  const at = info.lines.findIndex((line) => line.startsWith(`${name}:`));
  if (at < 0) return [];
  const rest = info.lines.slice(at + 1);
  const end = rest.findIndex((line) => !line.startsWith(" "));
  return end < 0 ? rest : rest.slice(0, end);
}

/** Sizes and counters. */
export function countersOf(info: FdInfo) {
  return {
    sqEntries: field(info, "SqMask") + 1,
    cqEntries: field(info, "CqMask") + 1,
    taken: field(info, "CachedSqHead"),
    sqTail: field(info, "SqTail"),
    cqHead: field(info, "CqHead"),
    cqTail: field(info, "CqTail"),
    thread: field(info, "SqThread"),
  };
}

/** Registered files, by slot, with what /proc calls them. */
export function filesOf(info: FdInfo): { slots: number; files: { slot: number; link: string }[] } {
  const files = listed(info, "UserFiles").flatMap((line) => {
    const [, slot, link] = /^ *(\d+): (.+)$/.exec(line) ?? [];
    return link === undefined ? [] : [{ slot: Number(slot), link: link.replace(/\\([0-7]{3})/g, (_, octal: string) => byte(octal)) }];
  });
  return { slots: field(info, "UserFiles"), files };
}

const byte = (octal: string) => String.fromCharCode(Number.parseInt(octal, 8));

/** Registered buffers, by slot. */
export function buffersOf(info: FdInfo): { slots: number; buffers: { slot: number; start: bigint; bytes: bigint }[] } {
  const buffers = listed(info, "UserBufs").flatMap((line) => {
    const [, slot, start = "", bytes = ""] = /^ *(\d+): 0x([0-9a-f]+)\/(\d+)/.exec(line) ?? [];
    return slot === undefined || Number(bytes) === 0 ? [] : [{ slot: Number(slot), start: BigInt(`0x${start}`), bytes: BigInt(bytes) }];
  });
  return { slots: field(info, "UserBufs"), buffers };
}

/** Before the freeze: gives the rings of running processes a moment to get their requests done. */
export function waitForRings(pids: readonly number[]): void {
  let busy = pids.flatMap((pid) => ringsOf(pid)).filter(isBusy);
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (const until = performance.now() + LOOK_MS; busy.length > 0 && performance.now() < until; busy = busy.filter(isBusy)) {
    Atomics.wait(nap, 0, 0, NAP_MS);
  }
}

interface RingOf {
  readonly pid: number;
  readonly fd: number;
}

/** Descriptors of rings of a process; none of one that ended. */
export function ringsOf(pid: number): RingOf[] {
  try {
    const fds = readdirSync(`/proc/${pid}/fd`);
    return fds.filter((fd) => readProcLink(pid, `fd/${fd}`) === RING_LINK).map((fd) => ({ pid, fd: Number(fd) }));
  } catch {
    return [];
  }
}

function isBusy({ pid, fd }: RingOf): boolean {
  try {
    const info = readFdInfo(pid, fd);
    return field(info, "SqThread") <= 0 && !isIdle(info);
  } catch {
    return false; // it is closed
  }
}
