import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { after, before, test } from "node:test";
import { KernelError } from "../errors.js";
import { usefulLanes } from "./lanes.js";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap, ownMemory } from "./memory.js";
import { PAGE_IS_PRESENT, PM_SCAN_WP_MATCHING, hasPagemapScan, pagemapScanEach, unprotectedStretches } from "./pagemap.js";
import { UnprotectedAhead } from "./unprotected.js";
import {
  UFFDIO_REGISTER_MODE_WP,
  UFFD_FEATURE_PAGEFAULT_FLAG_WP,
  UFFD_FEATURE_WP_ASYNC,
  UFFD_FEATURE_WP_UNPOPULATED,
  UFFD_USER_MODE_ONLY,
  uffdioApi,
  uffdioRegister,
  userfaultfd,
} from "./userfaultfd.js";

const PAGE = 4096;
/** Two pieces and a half. */
const SIZE = 160n << 20n;
const place: { address: bigint; bytes: Buffer } = { address: 0n, bytes: Buffer.alloc(0) };
let uffd: number | undefined;
let pagemap = -1;

/** Memory of this process in which writes are noticed. */
before(() => {
  pagemap = openSync("/proc/self/pagemap", "r");
  if (!hasPagemapScan(pagemap) || usefulLanes() < 2) return;
  place.address = mmap({ sizeBytes: SIZE, protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS });
  place.bytes = ownMemory({ address: place.address, sizeBytes: SIZE });
  try {
    const made = userfaultfd(UFFD_USER_MODE_ONLY);
    uffdioApi(made, UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    uffdioRegister(made, { address: place.address, sizeBytes: SIZE }, UFFDIO_REGISTER_MODE_WP);
    uffd = made;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
  }
});

after(() => {
  if (uffd !== undefined) closeSync(uffd);
  if (place.address !== 0n) munmap({ address: place.address, sizeBytes: SIZE });
  closeSync(pagemap);
});

const all = () => ({ start: place.address, end: place.address + SIZE });

/** Writes to every page, protects all, and writes to some again. */
function write(pages: readonly number[]): void {
  for (let at = 0; at < place.bytes.length; at += PAGE) place.bytes[at] = 1;
  pagemapScanEach(pagemap, { ...all(), flags: PM_SCAN_WP_MATCHING, anyOf: PAGE_IS_PRESENT, returned: 0n }, () => undefined);
  for (const page of pages) place.bytes[page * PAGE] = 2;
}

test("threads find the same unprotected pages as this one does, in all pieces and beyond the room of one", (t) => {
  if (uffd === undefined) return t.skip("no PAGEMAP_SCAN, no userfaultfd with WP_ASYNC, or one processor");
  const sparse = Array.from({ length: 700 }, (_, i) => i * 20);
  for (const pages of [[], [5], [0, 16383, 16384, 40959], sparse]) {
    write(pages);
    using ahead = UnprotectedAhead.prepare([{ pid: process.pid, mappings: [all()] }]);
    assert.ok(ahead !== undefined);
    ahead.begin();
    const found = ahead.of(process.pid, all());
    assert.deepEqual(found, unprotectedStretches(pagemap, all()));
    assert.equal(pages.length === 0, found?.length === 0);
    const part = { start: place.address + (60n << 20n), end: place.address + (70n << 20n) };
    assert.deepEqual(ahead.of(process.pid, part), unprotectedStretches(pagemap, part));
    // What is written now is not part of that look.
    place.bytes[30000 * PAGE] = 3;
    assert.deepEqual(ahead.of(process.pid, all()), found);
  }
});

test("a look says nothing of what it did not see: other memory, other processes, before it began, and when it began twice", (t) => {
  if (uffd === undefined) return t.skip("no PAGEMAP_SCAN, no userfaultfd with WP_ASYNC, or one processor");
  using ahead = UnprotectedAhead.prepare([{ pid: process.pid, mappings: [all()] }]);
  assert.ok(ahead !== undefined);
  assert.equal(ahead.of(process.pid, all()), undefined);
  ahead.begin();
  assert.equal(ahead.of(1, all()), undefined);
  assert.equal(ahead.of(process.pid, { start: place.address - 4096n, end: place.address + 4096n }), undefined);
  assert.equal(ahead.of(process.pid, { start: place.address, end: place.address + SIZE + 4096n }), undefined);
  assert.notEqual(ahead.of(process.pid, all()), undefined);
  ahead.begin();
  assert.equal(ahead.of(process.pid, all()), undefined);
});

test("little memory is not worth threads, and a look that was never begun ends", () => {
  const little = { start: place.address, end: place.address + 4096n };
  assert.equal(UnprotectedAhead.prepare([{ pid: process.pid, mappings: [little] }]), undefined);
  assert.equal(UnprotectedAhead.prepare([], true), undefined);
  UnprotectedAhead.prepare([{ pid: process.pid, mappings: [little] }], true)?.close();
});
