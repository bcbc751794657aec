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
import { memfdCreate } from "../../linux/memory.js";
import { PAGE_RUN } from "../../resources/memory/page-source.js";
import type { PagemapEntry, PagemapHead } from "../../resources/memory/pagemap.schema.js";
import { PAGE_BYTES, type PageConnection } from "./connection.js";
import { COMMAND, type PagesOf, encodeDestination } from "./wire.js";

const MFD_CLOEXEC = 1;
/** One message speaks of at most so many pages: the other end may have little room. */
const MESSAGE_PAGES = 1n << 15n;

interface Pagemap {
  readonly of: PagesOf;
  pagesId: number | undefined;
  readonly entries: PagemapEntry[];
}

export class SendingSink extends DirectorySink {
  readonly #connection: PageConnection;
  readonly #pagemaps = new Map<string, Pagemap>();
  readonly #pages = new Map<string, number>();
  readonly #memfds: number[] = [];
  /** A file whose pages have been handed to the connection. */
  #sent: number | undefined;

  constructor(directory: string, options: SinkOptions & { readonly to: PageConnection }) {
    super(directory, options);
    this.#connection = options.to;
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
    for (const pagemap of this.#pagemaps.values()) this.#send(pagemap);
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

  #send({ of, pagesId, entries }: Pagemap): void {
    const dst = encodeDestination(of);
    this.#connection.send({ command: COMMAND.OPEN2, dst });
    const hasParent = Buffer.alloc(1);
    this.#connection.read(hasParent);
    // Messages are taken in order: whoever answers this one has everything before it.
    if (this.#sent !== undefined) ftruncateSync(this.#sent, 0);
    this.#sent = undefined;
    const fd = this.#pages.get(imageFileName("PAGES", [pagesId ?? 0])) ?? -1;
    let offset = 0n;
    for (const entry of entries) {
      const flags = entry.flags ?? PAGE_RUN.PRESENT;
      const all = entry.nr_pages ?? BigInt(entry.compat_nr_pages);
      for (let done = 0n; done < all; ) {
        const pages = all - done < MESSAGE_PAGES ? all - done : MESSAGE_PAGES;
        this.#connection.send({ command: COMMAND.ADD_F, flags, pages, vaddr: entry.vaddr + done * PAGE_BYTES, dst });
        if ((flags & PAGE_RUN.PRESENT) !== 0) {
          const bytes = pages * PAGE_BYTES;
          this.#connection.sendFile({ fd, offset, bytes });
          offset += bytes;
        }
        done += pages;
      }
    }
    if (offset > 0n) this.#sent = fd;
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
