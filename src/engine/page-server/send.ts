/**
 * The sending end: images whose pages go to a page server.
 *
 * Nothing is sent while the tree stands still for it: pages are gathered in files without names, as they would be in images,
 * and go over the connection by sendfile(2) when everything is known. That hands the pages of the file themselves to the
 * connection: they are given back only when an answer says that the other end has them.
 */
import { closeSync, ftruncateSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { IMAGE_KINDS, type ImageKindName, imageFileName } from "../../images/kinds.js";
import { DirectorySink, type ImageRecord, type SinkOptions } from "../../images/sink.js";
import { floePageDigests } from "../../images/page-digests.schema.js";
import { memfdCreate } from "../../linux/memory.js";
import { difference, union } from "../../resources/memory/page-ranges.js";
import type { PageRange } from "../../resources/memory/page-runs.js";
import { PAGE_RUN } from "../../resources/memory/page-source.js";
import type { PagemapEntry, PagemapHead } from "../../resources/memory/pagemap.schema.js";
import { PAGE_BYTES, type PageConnection } from "./connection.js";
import { type DigestedRun, canDigest, digestsOf, digestsRecord, readDigests, summaryOf, unchanged } from "./digests.js";
import { SILENCE_MS } from "./options.js";
import { COMMAND, type PagesOf, SAME_PAGES, SAME_PAGES_YES, encodeDestination } from "./wire.js";

const MFD_CLOEXEC = 1;
const GIB = 2 ** 30;
/** One message speaks of at most so many pages: the other end may have little room. */
const MESSAGE_PAGES = 1n << 15n;

interface Pagemap {
  readonly of: PagesOf;
  pagesId: number | undefined;
  readonly entries: PagemapEntry[];
}

export interface SendingOptions extends SinkOptions {
  readonly to: PageConnection;
  /** The folder of the dump before, which went to the same server. */
  readonly previous?: string | undefined;
  /** Whether there may be a dump that is to send what differs from this one. */
  readonly hasNext?: boolean;
}

export class SendingSink extends DirectorySink {
  readonly #connection: PageConnection;
  readonly #pagemaps = new Map<string, Pagemap>();
  readonly #pages = new Map<string, number>();
  readonly #memfds: number[] = [];
  /** A file whose pages have been handed to the connection. */
  #sent: number | undefined;
  readonly #previous: string | undefined;
  readonly #hasNext: boolean;

  constructor(directory: string, options: SendingOptions) {
    super(directory, options);
    this.#connection = options.to;
    this.#previous = options.previous;
    this.#hasNext = options.hasNext === true;
  }

  override append<T>(kind: ImageKindName, ids: readonly (number | bigint)[], record: ImageRecord<T>): void {
    if (kind !== "PAGEMAP" && kind !== "SHMEM_PAGEMAP") {
      super.append(kind, ids, record);
      return;
    }
    const name = imageFileName(kind, ids);
    let pagemap = this.#pagemaps.get(name);
    if (pagemap === undefined) {
      pagemap = { of: { kind, id: BigInt(ids[0] ?? 0) }, pagesId: undefined, entries: [] };
      this.#pagemaps.set(name, pagemap);
    }
    if (isHead(record.value)) pagemap.pagesId = record.value.pages_id;
    else if (isEntry(record.value)) pagemap.entries.push(record.value);
  }

  override rawFile(name: string): number {
    if (!isPages(name)) return super.rawFile(name);
    const found = this.#pages.get(name);
    if (found !== undefined) return found;
    const fd = this.scratch();
    this.#pages.set(name, fd);
    return fd;
  }

  /** Where the file system has no files without names, in memory. */
  override scratch(): number {
    const fd = super.scratch();
    if (fd !== undefined) return fd;
    const memory = memfdCreate("floe-pages", MFD_CLOEXEC);
    this.#memfds.push(memory);
    return memory;
  }

  override giveName(fd: number, name: string): void {
    if (isPages(name)) this.#pages.set(name, fd);
    else super.giveName(fd, name);
  }

  override finish(durable = false): void {
    const before = this.#previous === undefined || !canDigest() ? undefined : readDigests(this.#previous);
    const digested: [bigint, DigestedRun][] = [];
    for (const pagemap of this.#pagemaps.values()) {
      const dst = encodeDestination(pagemap.of);
      for (const run of this.#send(pagemap, before?.get(dst))) digested.push([dst, run]);
    }
    this.#connection.send({ command: COMMAND.CLOSE });
    const status = Buffer.alloc(4);
    this.#connection.read(status);
    if (status.readInt32LE(0) !== 0) {
      throw new UsageError({
        code: "PAGE_SERVER_FAILED",
        message: `The page server at ${this.#connection.name} could not keep the pages (status ${status.readInt32LE(0)})`,
        remedy: ["Look at its log"],
      });
    }
    for (const [dst, run] of digested) super.append("FLOE_PAGE_DIGESTS", [], { type: floePageDigests, value: digestsRecord(dst, run) });
    super.finish(durable);
    this.#closeAll();
  }

  override discard(): void {
    super.discard();
    this.#closeAll();
  }

  #closeAll(): void {
    for (const fd of this.#memfds.splice(0)) closeSync(fd);
    this.#pages.clear();
    this.#pagemaps.clear();
    this.#connection.close();
  }

  /** Sends one pagemap; digests of its pages. */
  #send({ of, pagesId, entries }: Pagemap, before: readonly DigestedRun[] | undefined): DigestedRun[] {
    const dst = encodeDestination(of);
    this.#connection.send({ command: COMMAND.OPEN2, dst });
    const hasParent = Buffer.alloc(1);
    this.#connection.read(hasParent);
    // Messages are taken in order: whoever answers this one has everything before it.
    if (this.#sent !== undefined) ftruncateSync(this.#sent, 0);
    this.#sent = undefined;
    const known = before !== undefined && hasParent[0] !== 0 && this.#isThere(dst, before) ? before : [];
    const fd = this.#pages.get(imageFileName("PAGES", [pagesId ?? 0])) ?? -1;
    const isDigested = (this.#hasNext && canDigest()) || known.length > 0;
    const digested: DigestedRun[] = [];
    let offset = 0n;
    for (const entry of entries) {
      const flags = entry.flags ?? PAGE_RUN.PRESENT;
      const run = { start: entry.vaddr, end: entry.vaddr + (entry.nr_pages ?? BigInt(entry.compat_nr_pages)) * PAGE_BYTES };
      if ((flags & PAGE_RUN.PRESENT) === 0) {
        this.#describe(run, flags, dst);
        continue;
      }
      const own = isDigested ? [...digestsOf(fd, { ...run, offset })] : [];
      digested.push(...own);
      const same = union(
        own.flatMap((piece) => unchanged(piece, known)),
        [],
      );
      const pieces = [
        ...same.map((range) => ({ range, isSame: true })),
        ...difference([run], same).map((range) => ({ range, isSame: false })),
      ].sort((a, b) => (a.range.start < b.range.start ? -1 : 1));
      for (const { range, isSame } of pieces) {
        if (isSame) this.#describe(range, PAGE_RUN.IN_PARENT, dst);
        else this.#sendPages(range, { flags, dst, fd, offset: offset + (range.start - run.start) });
      }
      offset += run.end - run.start;
    }
    if (offset > 0n) this.#sent = fd;
    return digested;
  }

  /** Whether the server has what was sent to it before. */
  #isThere(dst: bigint, before: readonly DigestedRun[]): boolean {
    this.#connection.send({ command: COMMAND.PARENT, dst, pages: SAME_PAGES, vaddr: summaryOf(before) });
    const answer = Buffer.alloc(4);
    // It reads all of them, perhaps from a slow disk.
    const bytes = Number(before.reduce((sum, { start, end }) => sum + (end - start), 0n));
    this.#connection.read(answer, { timeoutMs: SILENCE_MS * (1 + Math.ceil(bytes / GIB)) });
    return answer.readInt32LE(0) === SAME_PAGES_YES;
  }

  #describe({ start, end }: PageRange, flags: number, dst: bigint): void {
    for (const [vaddr, pages] of messagesOf(start, end)) this.#connection.send({ command: COMMAND.ADD_F, flags, pages, vaddr, dst });
  }

  #sendPages({ start, end }: PageRange, { flags, dst, fd, offset }: { flags: number; dst: bigint; fd: number; offset: bigint }): void {
    for (const [vaddr, pages] of messagesOf(start, end)) {
      this.#connection.send({ command: COMMAND.ADD_F, flags, pages, vaddr, dst });
      this.#connection.sendFile({ fd, offset: offset + (vaddr - start), bytes: pages * PAGE_BYTES });
    }
  }
}

/** Address and number of pages of each message about a range. */
function* messagesOf(start: bigint, end: bigint): Generator<[vaddr: bigint, pages: bigint]> {
  for (let at = start; at < end; ) {
    const left = (end - at) / PAGE_BYTES;
    const pages = left < MESSAGE_PAGES ? left : MESSAGE_PAGES;
    yield [at, pages];
    at += pages * PAGE_BYTES;
  }
}

const pagesName = new RegExp(`^${IMAGE_KINDS.PAGES.file.replace(".", "\\.").replace("%u", "\\d+")}$`);

function isPages(name: string): boolean {
  return pagesName.test(name);
}

function isHead(value: unknown): value is PagemapHead {
  return typeof value === "object" && value !== null && "pages_id" in value;
}

function isEntry(value: unknown): value is PagemapEntry {
  return typeof value === "object" && value !== null && "compat_nr_pages" in value;
}
