/**
 * Where the pages of lazily restored processes come from: images in a directory, seen through mappings so that the kernel
 * copies from the page cache straight into the process; or a page server.
 */
import { DirectorySource } from "../../images/source.js";
import type { PageFile } from "../../images/page-file.js";
import { MAP_SHARED, PROT_READ, mmap, munmap } from "../../linux/memory.js";
import { AREA } from "../../resources/memory/area.js";
import { type MmEntry, mmEntry } from "../../resources/memory/mm.schema.js";
import type { PageRange } from "../../resources/memory/page-runs.js";
import { intersection } from "../../resources/memory/page-ranges.js";
import { type PageSource, type StoredRun, doneWith, openPageSource, partOf, placeOf } from "../../resources/memory/page-source.js";
import { pstreeEntry } from "../../resources/tasks/tree.schema.js";
import type { PendingRange } from "./pending.js";

/** Bytes of ours that hold pages of the images. */
export interface Held {
  readonly address: bigint;
  readonly bytes: bigint;
  /** They have been copied. */
  done(): void;
}

/** The images of lazily restored processes. */
export class LazyImages {
  readonly directory: string;
  readonly #images: DirectorySource;
  readonly #sources = new Map<number, PageSource>();
  readonly #maps = new Map<PageFile, { readonly address: bigint; readonly sizeBytes: bigint }>();

  constructor(directory: string) {
    this.directory = directory;
    this.#images = new DirectorySource(directory);
  }

  /** Some process of the images, to ask about. */
  anybody(): { kind: "PAGEMAP"; id: bigint } {
    const [first] = this.#images.records("PSTREE", [], pstreeEntry);
    return { kind: "PAGEMAP", id: BigInt(first?.value.pid ?? 1) };
  }

  #source(pid: number): PageSource {
    let source = this.#sources.get(pid);
    if (source === undefined) {
      source = openPageSource(this.#images, { kind: "PAGEMAP", id: pid });
      this.#sources.set(pid, source);
    }
    return source;
  }

  /**
   * What may be missing in process `pid`, cut where mappings end: one request cannot go across. Pages that the restore has put in
   * place itself are no harm: they are found to be there.
   */
  pendingOf(pid: number): PendingRange[] {
    if (!this.#images.exists("MM", [pid])) return [];
    const { vmas }: MmEntry = this.#images.single("MM", [pid], mmEntry);
    const { runs, absent } = this.#source(pid);
    const pages = [...runs.filter((run) => run.lazy), ...absent].sort((a, b) => (a.start < b.start ? -1 : 1));
    const mappings: PageRange[] = vmas.filter((vma) => vma.status & AREA.ANON_PRIVATE && !(vma.status & AREA.GUARD));
    return intersection(pages, mappings).map(({ start, end }) => ({ start, end, origin: start }));
  }

  /** Whether the images have page `origin` of `pid`. */
  has(pid: number, origin: bigint): boolean {
    return runAt(this.#source(pid).runs, origin) !== undefined;
  }

  /** At most `bytes` of the images from page `origin` of `pid` on; undefined when they are not in this directory. */
  hold(pid: number, origin: bigint, bytes: bigint): Held | undefined {
    const run = runAt(this.#source(pid).runs, origin);
    if (run === undefined) return undefined;
    const part = partOf(run, origin, origin + bytes < run.end ? origin + bytes : run.end);
    const { offset } = placeOf(part);
    return { address: this.#map(part.file) + offset, bytes: part.end - part.start, done: () => doneWith(part) };
  }

  #map(file: PageFile): bigint {
    let map = this.#maps.get(file);
    if (map === undefined) {
      const { sizeBytes } = file;
      map = { sizeBytes, address: mmap({ sizeBytes, protection: PROT_READ, flags: MAP_SHARED, fd: file.fd }) };
      this.#maps.set(file, map);
    }
    return map.address;
  }

  close(): void {
    for (const map of this.#maps.values()) munmap(map);
    this.#maps.clear();
    this.#images.close();
  }
}

/** The run that has a page; runs are in ascending order. */
function runAt(runs: readonly StoredRun[], page: bigint): StoredRun | undefined {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((runs[middle] as StoredRun).end <= page) low = middle + 1;
    else high = middle;
  }
  const run = runs[low];
  return run !== undefined && run.start <= page ? run : undefined;
}
