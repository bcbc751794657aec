/**
 * Probes of memory: dirty tracking, mappings that move, userfaultfd.
 */
import { closeSync, openSync, readSync, readlinkSync, writeFileSync } from "node:fs";
import { viewMemory } from "../../linux/ffi/native.unsafe.js";
import {
  MADV_GUARD_INSTALL,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MFD_CLOEXEC,
  MFD_HUGETLB,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  type MemoryRange,
  PAGE_BYTES,
  PROT_READ,
  PROT_WRITE,
  madvise,
  memfdCreate,
  mmap,
  munmap,
} from "../../linux/memory.js";
import { PAGE_IS_GUARD, PAGE_IS_PRESENT, PM_SOFT_DIRTY, pagemapScan } from "../../linux/pagemap.js";
import type { Vma } from "../../linux/proc/maps.js";
import { readMaps } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import * as uffd from "../../linux/userfaultfd.js";
import type { TracedThread } from "../../target/thread.js";
import { type Probe, calls, expect, withFds, withSandbox } from "./probe.js";

const PAGE = BigInt(PAGE_BYTES);

/** Gives `use` a fresh private page of ours. */
function withPage<R>(use: (page: MemoryRange) => R): R {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const page = { address: mmap({ sizeBytes: PAGE, protection: PROT_READ | PROT_WRITE, flags }), sizeBytes: PAGE };
  try {
    return use(page);
  } finally {
    munmap(page);
  }
}

function touch({ address }: MemoryRange): void {
  viewMemory(address, PAGE_BYTES)[0] = 1;
}

/** Soft-dirty bits: cleared by /proc/PID/clear_refs, set by a write. */
function dirtyTracking(): void {
  withPage((page) => {
    touch(page);
    writeFileSync("/proc/self/clear_refs", "4");
    touch(page);
    expect((pagemapOf(page) & PM_SOFT_DIRTY) !== 0n, "a page that was written to is not marked dirty (CONFIG_MEM_SOFT_DIRTY)");
  });
}

function pagemapOf(page: MemoryRange): bigint {
  const entry = Buffer.alloc(8);
  const fd = openSync("/proc/self/pagemap", "r");
  try {
    readSync(fd, entry, 0, entry.length, Number((page.address / PAGE) * 8n));
  } finally {
    closeSync(fd);
  }
  return entry.readBigUInt64LE(0);
}

function scanFinds(page: MemoryRange, category: bigint): boolean {
  return withFds(
    () => [openSync("/proc/self/pagemap", "r")],
    (fd = -1) => {
      const scan = { start: page.address, end: page.address + page.sizeBytes, mask: category, returned: category };
      return pagemapScan(fd, scan).length === 1;
    },
  );
}

function mapFiles(): void {
  withFds(
    () => [openSync("/proc/self/exe", "r")],
    (fd = -1) => {
      const range = { address: mmap({ sizeBytes: PAGE, protection: PROT_READ, flags: MAP_PRIVATE, fd }), sizeBytes: PAGE };
      try {
        const path = `/proc/self/map_files/${range.address.toString(16)}-${(range.address + PAGE).toString(16)}`;
        readlinkSync(path);
        closeSync(openSync(path, "r"));
      } finally {
        munmap(range);
      }
    },
  );
}

/** Where a sandbox has nothing. */
const FREE_PLACE = 0x2000_0000n;

const areasOf = (thread: TracedThread, name: RegExp): Vma[] => readMaps(thread.task.pid).filter((vma) => name.test(vma.name));

/** Moves the vdso and its data to another place, as a restore does. */
function moveVdso(): void {
  withSandbox((thread) => {
    const areas = areasOf(thread, /^\[(vdso|vvar)/);
    expect(areas.length > 0, "there is no vdso");
    const first = areas[0]?.start ?? 0n;
    calls(thread, (p) => {
      for (const { start, end } of areas) {
        p.call(SYS.mremap, start, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE + start - first).must();
      }
    });
  });
}

const ARCH_MAP_VDSO_32 = 0x2002;
const ARCH_MAP_VDSO_64 = 0x2003;

/** arch_prctl(2) puts a vdso at an address of our choice into a process that has none. */
function mapVdso(request: number): void {
  withSandbox((thread) => {
    const areas = areasOf(thread, /^\[(vdso|vvar)/);
    calls(thread, (p) => {
      for (const { start, end } of areas) p.call(SYS.munmap, start, end - start).must();
      p.call(SYS.arch_prctl, request, FREE_PLACE).must();
    });
    expect(areasOf(thread, /^\[vdso\]/).length === 1, "arch_prctl(ARCH_MAP_VDSO) made no vdso");
  });
}

/** A ring of asynchronous I/O is known by its address; the kernel must follow when it moves. */
function moveAioRing(): void {
  withSandbox((thread) => {
    const context = calls(thread, (p) => {
      const out = p.buffer(8);
      p.call(SYS.io_setup, 16, out).must();
      return out;
    });
    const address = context.bytes().readBigUInt64LE(0);
    const ring = readMaps(thread.task.pid).find((vma) => vma.start === address);
    expect(ring !== undefined, "the ring is not among the mappings");
    const sizeBytes = (ring?.end ?? 0n) - address;
    calls(thread, (p) => {
      p.call(SYS.mremap, address, sizeBytes, sizeBytes, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE).must();
      p.call(SYS.io_destroy, FREE_PLACE).must("using the ring at its new place");
    });
  });
}

const O_CLOEXEC_NONBLOCK = 0o2004000;

function faultHandling(needed: bigint): void {
  withFds(
    () => [uffd.userfaultfd(O_CLOEXEC_NONBLOCK)],
    (fd = -1) => {
      const features = uffd.uffdioApi(fd, 0n);
      expect((features & needed) === needed, `userfaultfd has features 0x${features.toString(16)}, needed are 0x${needed.toString(16)}`);
    },
  );
}

const UFFD_NONCOOPERATIVE =
  uffd.UFFD_FEATURE_EVENT_FORK | uffd.UFFD_FEATURE_EVENT_REMAP | uffd.UFFD_FEATURE_EVENT_UNMAP | uffd.UFFD_FEATURE_EVENT_REMOVE;

export const requiredMemory: readonly Probe[] = [
  { name: "map_files", attempt: mapFiles },
  { name: "mremap of the vdso", attempt: moveVdso },
];

export const memoryFeatures: readonly Probe[] = [
  { name: "mem_dirty_track", attempt: dirtyTracking },
  { name: "aio_remap", attempt: moveAioRing },
  { name: "compat_cr", attempt: () => mapVdso(ARCH_MAP_VDSO_32) },
  { name: "uffd", attempt: () => faultHandling(0n) },
  { name: "uffd-noncoop", attempt: () => faultHandling(UFFD_NONCOOPERATIVE) },
  { name: "can_map_vdso", attempt: () => mapVdso(ARCH_MAP_VDSO_64) },
  {
    name: "memfd_hugetlb",
    attempt: () =>
      withFds(
        () => [memfdCreate("floe-check", MFD_CLOEXEC | MFD_HUGETLB)],
        () => {},
      ),
  },
  {
    name: "pagemap_scan",
    attempt: () =>
      withPage((page) => {
        touch(page);
        expect(scanFinds(page, PAGE_IS_PRESENT), "PAGEMAP_SCAN does not find a page that is there");
      }),
  },
  {
    name: "pagemap_scan_guard_pages",
    attempt: () =>
      withPage((page) => {
        madvise(page, MADV_GUARD_INSTALL);
        expect(scanFinds(page, PAGE_IS_GUARD), "PAGEMAP_SCAN does not find a guard page");
      }),
  },
];
