/**
 * ioctl(PAGEMAP_SCAN) on /proc/PID/pagemap, since 6.7, and the entries of that file, proc_pid_pagemap(5).
 *
 * Source: uapi/linux/fs.h, Documentation/admin-guide/mm/pagemap.rst.
 */
import { checked } from "./errno.js";
import { closeSync, openSync, readSync } from "node:fs";
import { release } from "node:os";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

/** _IOWR('f', 16, struct pm_scan_arg). */
const PAGEMAP_SCAN = 0xc060_6610;

export const PAGE_IS_WPALLOWED = 1n << 0n;
export const PAGE_IS_WRITTEN = 1n << 1n;
export const PAGE_IS_FILE = 1n << 2n;
export const PAGE_IS_PRESENT = 1n << 3n;
export const PAGE_IS_SWAPPED = 1n << 4n;
export const PAGE_IS_PFNZERO = 1n << 5n;
export const PAGE_IS_HUGE = 1n << 6n;
export const PAGE_IS_SOFT_DIRTY = 1n << 7n;
/** Since 6.15. */
export const PAGE_IS_GUARD = 1n << 8n;

export const PM_SCAN_WP_MATCHING = 1n << 0n;
export const PM_SCAN_CHECK_WPASYNC = 1n << 1n;

/** What to look for. A page matches when ((its categories ^ inverted) & mask) == mask and, if given, any of anyOf. */
export interface PagemapScan {
  readonly start: bigint;
  readonly end: bigint;
  /** PM_SCAN_…. */
  readonly flags?: bigint;
  readonly inverted?: bigint;
  readonly mask?: bigint;
  readonly anyOf?: bigint;
  /** Categories to tell apart in the result; ranges with equal ones are joined. */
  readonly returned: bigint;
  /** Stop after so many pages; 0: no limit. */
  readonly maxPages?: bigint;
}

/** struct page_region. */
export interface PageRegion {
  readonly start: bigint;
  readonly end: bigint;
  readonly categories: bigint;
}

const ARG_BYTES = 96;
const REGION_BYTES = 24;
const REGIONS = 4096;
/** Offsets in struct pm_scan_arg. */
const START = 16;
const END = 24;
const WALK_END = 32;
/** PAGEMAP_SCAN and where its argument tells how far it came, for those who make the call otherwise. */
export const SCAN = { request: PAGEMAP_SCAN, walkEnd: WALK_END, regionBytes: REGION_BYTES };

/** struct pm_scan_arg; `regions` is where the kernel puts its answer. */
export function encodePagemapScan(scan: PagemapScan, regions: { address: bigint; count: number }): Buffer {
  const bytes = Buffer.alloc(ARG_BYTES);
  const fields = [
    BigInt(ARG_BYTES),
    scan.flags ?? 0n,
    scan.start,
    scan.end,
    0n,
    regions.address,
    BigInt(regions.count),
    scan.maxPages ?? 0n,
    scan.inverted ?? 0n,
    scan.mask ?? 0n,
    scan.anyOf ?? 0n,
    scan.returned,
  ];
  fields.forEach((value, i) => bytes.writeBigUInt64LE(value, i * 8));
  return bytes;
}

/** Regions found so far, straight from the kernel: `count` times start, end, categories. Reused by the next scan. */
const regionMemory = new BigUint64Array(REGIONS * 3);

/**
 * ioctl(fd, PAGEMAP_SCAN, arg) — calls `found` for each region of [start, end) that matches, in ascending order.
 *
 * A call may stop early, and the next one then reports the end of the last region again (seen on 6.18 with a thousand
 * regions): what was reported already is cut off here. `fd` is /proc/PID/pagemap. With PM_SCAN_WP_MATCHING the regions are write-protected in the same pass; the range must
 * then be registered with a userfaultfd in WP_ASYNC mode. EINVAL or ENOTTY: the kernel has no PAGEMAP_SCAN.
 */
export function pagemapScanEach(fd: number, scan: PagemapScan, found: Found): void {
  pagemapScanRanges(fd, scan, [scan], found);
}

/** The same for many ranges, each in ascending order. */
export function pagemapScanRanges(
  fd: number,
  what: Omit<PagemapScan, "start" | "end">,
  ranges: Iterable<Readonly<Stretch>>,
  found: Found,
): void {
  const bytes = new Uint8Array(regionMemory.buffer);
  const encoded = encodePagemapScan({ ...what, start: 0n, end: 0n }, { address: addressOf(bytes), count: REGIONS });
  const words = new BigUint64Array(ARG_BYTES / 8);
  const arg = new Uint8Array(words.buffer);
  arg.set(encoded);
  for (const range of ranges) scanRange(fd, range, { words, arg, isLimited: (what.maxPages ?? 0n) !== 0n, found });
}

type Found = (start: bigint, end: bigint, categories: bigint) => void;

interface Scanning {
  readonly words: BigUint64Array;
  /** The same memory. */
  readonly arg: Uint8Array;
  readonly isLimited: boolean;
  readonly found: Found;
}

function scanRange(fd: number, range: Readonly<Stretch>, { words, arg, isLimited, found }: Scanning): void {
  let reported = range.start;
  words[END / 8] = range.end;
  for (let at = range.start; at < range.end; ) {
    words[START / 8] = at;
    const count = checked(
      syscallNumber(SYS.ioctl, fd, PAGEMAP_SCAN, arg),
      () => `ioctl(${fd}, PAGEMAP_SCAN, 0x${at.toString(16)}-0x${range.end.toString(16)})`,
    );
    for (let i = 0; i < count * 3; i += 3) {
      const start = regionMemory[i] ?? 0n;
      const end = regionMemory[i + 1] ?? 0n;
      if (end <= reported) continue;
      found(start > reported ? start : reported, end, regionMemory[i + 2] ?? 0n);
      reported = end;
    }
    const walked = words[WALK_END / 8] ?? at;
    if (walked <= at || isLimited) return;
    at = walked;
  }
}

/** {@link pagemapScanEach} as a list; regions that touch and are alike are joined. */
export function pagemapScan(fd: number, scan: PagemapScan): PageRegion[] {
  const regions: PageRegion[] = [];
  pagemapScanEach(fd, scan, (start, end, categories) => {
    const last = regions.at(-1);
    if (last !== undefined && last.end === start && last.categories === categories) {
      regions[regions.length - 1] = { start: last.start, end, categories };
    } else regions.push({ start, end, categories });
  });
  return regions;
}

/** Places less than this apart are looked at by one call: a call costs as much as the look at so many pages. */
const NEAR_BYTES = 64n << 12n;

/**
 * ioctl(fd, PAGEMAP_SCAN, arg) — stretches of [start, end), tracked by a userfaultfd, that hold all pages that are not protected: what was
 * written, what is not there, zeros. Between them every page is there (or swapped out) and was not written.
 *
 * The kernel only looks at one bit of each entry when it is asked for nothing but PAGE_IS_WRITTEN: a fifth of the time of any other scan.
 */
export function unprotectedStretches(fd: number, { start, end }: Readonly<Stretch>): Stretch[] {
  if (!isBitTrustworthy()) return [{ start, end }];
  const found: Stretch[] = [];
  pagemapScanEach(fd, { start, end, ...UNPROTECTED }, (from, to) => addStretch(found, from, to));
  return found;
}

/** What {@link unprotectedStretches} asks for. */
export const UNPROTECTED = { mask: PAGE_IS_WRITTEN, returned: PAGE_IS_WRITTEN };

/** Pages [start, end), while they are being found. */
export interface Stretch {
  start: bigint;
  end: bigint;
}

/** Adds pages that were found, behind all others. */
export function addStretch(found: Stretch[], start: bigint, end: bigint): void {
  const last = found.at(-1);
  if (last !== undefined && start - last.end < NEAR_BYTES) last.end = end;
  else found.push({ start, end });
}

let trustworthy: boolean | undefined;

/** Before 6.9 that look took a bit of a swapped page's place for the protection. */
export function isBitTrustworthy(): boolean {
  if (trustworthy === undefined) {
    const [major = 0, minor = 0] = release().split(".").map(Number);
    trustworthy = major > 6 || (major === 6 && minor >= 9);
  }
  return trustworthy;
}

/** Whether descriptor `fd` of a pagemap takes PAGEMAP_SCAN. */
export function hasPagemapScan(fd: number): boolean {
  const arg = encodePagemapScan({ start: 0n, end: 0n, returned: 0n }, { address: 0n, count: 0 });
  return syscallNumber(SYS.ioctl, fd, PAGEMAP_SCAN, arg) >= 0;
}

let guard: bigint | undefined;

/** PAGE_IS_GUARD where the kernel knows it (since 6.15), otherwise 0. `fd`: any pagemap. */
export function guardCategory(fd: number): bigint {
  if (guard === undefined) {
    const arg = encodePagemapScan({ start: 0n, end: 0n, returned: PAGE_IS_GUARD }, { address: 0n, count: 0 });
    guard = syscallNumber(SYS.ioctl, fd, PAGEMAP_SCAN, arg) >= 0 ? PAGE_IS_GUARD : 0n;
  }
  return guard;
}

export { REGION_BYTES as PAGE_REGION_BYTES };

/** Bits of an entry of /proc/PID/pagemap. */
export const PM_SOFT_DIRTY = 1n << 55n;
export const PM_MMAP_EXCLUSIVE = 1n << 56n;
export const PM_UFFD_WP = 1n << 57n;
export const PM_GUARD_REGION = 1n << 58n;
export const PM_FILE = 1n << 61n;
export const PM_SWAP = 1n << 62n;
export const PM_PRESENT = 1n << 63n;
/** Page frame number; 0 without CAP_SYS_ADMIN. */
export const PM_PFN_MASK = (1n << 55n) - 1n;

const ENTRY_BYTES = 8;
const PAGE_SHIFT = 12n;

/** /proc/self/pagemap — the number of the page behind an address of ours; undefined: there is none, or it is not for us to know. */
export function frameOf(address: bigint): bigint | undefined {
  const entry = Buffer.alloc(ENTRY_BYTES);
  const fd = openSync("/proc/self/pagemap", "r");
  try {
    if (readSync(fd, entry, 0, ENTRY_BYTES, Number(address >> PAGE_SHIFT) * ENTRY_BYTES) !== ENTRY_BYTES) return undefined;
  } finally {
    closeSync(fd);
  }
  const value = entry.readBigUInt64LE(0);
  const frame = value & PM_PFN_MASK;
  return (value & PM_PRESENT) === 0n || frame === 0n ? undefined : frame;
}
