/**
 * floe-page-index-N.img: which pages of the store are those of pages image N, in order.
 */
import { ImageError } from "../../errors.js";
import type { PagePiece, StoredPages } from "../page-file.js";
import type { FloePageIndex } from "../page-index.schema.js";
import { PAGE_BYTES } from "./format.js";
import type { StoreFile } from "./read.js";

/** A range of the image and where it is in the store, in bytes. */
interface Placed {
  readonly start: bigint;
  readonly end: bigint;
  readonly offset: bigint;
}

/** Checks an index and looks pages up in it. */
export function indexedPages(
  store: StoreFile,
  file: string,
  records: readonly { readonly value: FloePageIndex; readonly offsetBytes: number }[],
): StoredPages {
  const pages = BigInt(store.pages);
  const page = BigInt(PAGE_BYTES);
  const ranges: Placed[] = [];
  let start = 0n;
  for (const { value, offsetBytes } of records) {
    const { first_page: first, nr_pages: count } = value;
    if (count === 0n || first + count > pages) {
      throw new ImageError({
        code: "IMAGE_BAD_PAGE_STORE",
        place: { file, offsetBytes },
        because: `pages ${first} to ${first + count} are named, ${store.name} has ${pages}`,
        remedy: ["Use an intact copy of the images directory", "Dump the process again"],
      });
    }
    const end = start + count * page;
    ranges.push({ start, end, offset: first * page });
    start = end;
  }
  return { name: file, sizeBytes: start, at: (offset, sizeBytes) => piecesOf(store, ranges, { start: offset, end: offset + sizeBytes }) };
}

function piecesOf(store: StoreFile, ranges: readonly Placed[], want: { readonly start: bigint; readonly end: bigint }): PagePiece[] {
  const pieces: PagePiece[] = [];
  for (let i = firstBehind(ranges, want.start); i < ranges.length; i++) {
    const range = ranges[i] as Placed;
    if (range.start >= want.end) break;
    const from = range.start > want.start ? range.start : want.start;
    const to = range.end < want.end ? range.end : want.end;
    pieces.push({ file: store, offset: range.offset + (from - range.start), sizeBytes: to - from });
  }
  return pieces;
}

/** The first range that ends behind `offset`. */
function firstBehind(ranges: readonly Placed[], offset: bigint): number {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle] as Placed).end <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
