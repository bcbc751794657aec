/**
 * Equal pages: found by hash, and compared before they are taken for the same.
 *
 * So pages that a forked child has in common with its parent are stored once, whatever became of the addresses, and so are
 * pages of zeros. A page that follows, in its image, one that was found is looked for behind it first: what forked processes
 * have in common stays in long ranges.
 */
import { LaneWork, Lanes } from "../../linux/lanes.js";
import { hashFunction } from "../../linux/page-functions.js";
import { PAGE_BYTES, type StorePages } from "./format.js";
import type { PagesView } from "./write.js";

/** Pages that one lane hashes in one go. */
const HASH_PAGES = 1024;
const HASH_BYTES = 8;
/** So that a hash is a whole number that JavaScript has. */
const HIGH_BITS = 0x1fffff;

/** Which pages a store has, and who refers to them. */
export interface PageOrder {
  /** Pages of the store. */
  readonly count: number;
  /** Where each of them is: the source, and the page there. */
  readonly sourceOf: Uint32Array;
  readonly pageOf: Uint32Array;
  /** For each source its pages in the store, in order. */
  readonly runs: readonly StorePages[][];
  /** Pages that are referred to more than once. */
  readonly shared: readonly StorePages[];
}

/** All pages of all sources, one after another. */
export function allPages(views: readonly PagesView[]): PageOrder {
  const total = views.reduce((sum, { pages }) => sum + pages, 0);
  const sourceOf = new Uint32Array(total);
  const pageOf = new Uint32Array(total);
  let count = 0;
  const runs = views.map(({ pages }, source): StorePages[] => {
    const first = count;
    sourceOf.fill(source, first, first + pages);
    for (let page = 0; page < pages; page++) pageOf[count++] = page;
    return pages === 0 ? [] : [{ first, pages }];
  });
  return { count, sourceOf, pageOf, runs, shared: [] };
}

/** Every page once. */
export function distinctPages(views: readonly PagesView[]): PageOrder {
  const total = views.reduce((sum, { pages }) => sum + pages, 0);
  const hashes = hashPages(views, total);
  const sourceOf = new Uint32Array(total);
  const pageOf = new Uint32Array(total);
  const hashOf = new Float64Array(total);
  const uses = new Uint8Array(total);
  const known = new Map<number, number>();
  let count = 0;
  let index = 0;
  const isSame = (stored: number, source: number, page: number) => {
    const old = views[sourceOf[stored] as number] as PagesView;
    const own = views[source] as PagesView;
    const [a, b] = [(pageOf[stored] as number) * PAGE_BYTES, page * PAGE_BYTES];
    return old.bytes.compare(own.bytes, b, b + PAGE_BYTES, a, a + PAGE_BYTES) === 0;
  };
  const runs = views.map(({ pages }, source) => {
    const own: { first: number; pages: number }[] = [];
    let next = -1;
    for (let page = 0; page < pages; page++, index++) {
      const hash = hashes[index] as number;
      let found: number | undefined;
      if (next >= 0 && next < count && hashOf[next] === hash && isSame(next, source, page)) found = next;
      else {
        found = known.get(hash);
        if (found !== undefined && !isSame(found, source, page)) found = undefined;
      }
      if (found === undefined) {
        found = count++;
        sourceOf[found] = source;
        pageOf[found] = page;
        hashOf[found] = hash;
        if (!known.has(hash)) known.set(hash, found);
      }
      uses[found] = Math.min(2, (uses[found] as number) + 1);
      const last = own.at(-1);
      if (last !== undefined && last.first + last.pages === found) last.pages++;
      else own.push({ first: found, pages: 1 });
      next = found + 1;
    }
    return own;
  });
  return { count, sourceOf, pageOf, runs, shared: rangesOf(uses, count) };
}

function rangesOf(uses: Uint8Array, count: number): StorePages[] {
  const ranges: { first: number; pages: number }[] = [];
  for (let page = 0; page < count; page++) {
    if (uses[page] !== 2) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.first + last.pages === page) last.pages++;
    else ranges.push({ first: page, pages: 1 });
  }
  return ranges;
}

function hashPages(views: readonly PagesView[], total: number): Float64Array {
  const raw = Buffer.allocUnsafeSlow(Math.max(HASH_BYTES, total * HASH_BYTES));
  const work = new LaneWork();
  let at = 0;
  for (const { address, pages } of views) {
    for (let page = 0; page < pages; page += HASH_PAGES) {
      const some = Math.min(HASH_PAGES, pages - page);
      work.group();
      work.call(hashFunction(), address + BigInt(page * PAGE_BYTES), some, raw.subarray((at + page) * HASH_BYTES));
    }
    at += pages;
  }
  using lanes = new Lanes({ areaBytes: 1 });
  lanes.run(work);
  const hashes = new Float64Array(total);
  for (let i = 0; i < total; i++) {
    hashes[i] = (raw.readUInt32LE(i * HASH_BYTES + 4) & HIGH_BITS) * 2 ** 32 + raw.readUInt32LE(i * HASH_BYTES);
  }
  return hashes;
}
