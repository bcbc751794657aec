/**
 * The receiving end: pages that come over a connection become images.
 *
 * The bytes of pages go from the socket to the image by splice(2). The pagemaps are written when the sender says that it has
 * done (CLOSE), which is answered when they are safe; whatever ends before leaves no images behind.
 *
 * With --prev-images-dir pages that are equal there are left to those images, also where the sender has not left them out.
 */
import { existsSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import { DirectorySink } from "../../images/sink.js";
import type { StoreOptions } from "../../images/store/write.js";
import type { DirectorySource } from "../../images/source.js";
import { pagesOfParent, thin } from "../../resources/memory/increment.js";
import type { PageRange } from "../../resources/memory/page-runs.js";
import { PAGE_RUN, pageRun } from "../../resources/memory/page-source.js";
import { pagemapEntry, pagemapHead } from "../../resources/memory/pagemap.schema.js";
import { dedupAgainst } from "../dedup.js";
import type { Logger } from "../log.js";
import { openPrevious } from "../previous.js";
import { PAGE_BYTES, type PageConnection } from "./connection.js";
import { canDigest, digestsOfStored, summaryOf } from "./digests.js";
import { COMMAND, type PageMessage, type PagesOf, SAME_PAGES, SAME_PAGES_YES, decodeDestination } from "./wire.js";

/** So that a dump and a page server may write into one directory. */
const FIRST_PAGES_ID = 0x10001;
const KNOWN_FLAGS = PAGE_RUN.IN_PARENT | PAGE_RUN.LAZY | PAGE_RUN.PRESENT;
/** Processes and objects of one dump; more than that is not meant. */
const MAX_OPENED = 1 << 20;

export interface ReceiveOptions {
  readonly imagesDir: string;
  readonly prevImagesDir: string | undefined;
  readonly autoDedup: boolean;
  readonly pages?: StoreOptions | undefined;
}

/** An image being received. */
interface Opened {
  readonly of: PagesOf;
  readonly dst: bigint;
  readonly pagesId: number;
  readonly fd: number;
  offset: bigint;
  /** The end of the last pages. */
  end: bigint;
  /** What came, ascending. */
  readonly runs: Received[];
}

interface Received extends PageRange {
  readonly flags: number;
}

/** Receives until the sender has done. Throws with no image kept. */
export function receivePages(connection: PageConnection, options: ReceiveOptions, log: Logger): void {
  const sink = new DirectorySink(options.imagesDir, { pages: options.pages });
  let parent: DirectorySource | undefined;
  try {
    parent = openPrevious(options, sink);
    const receiver = new Receiver(connection, { sink, parent, log });
    receiver.run();
    log.info(`received: ${receiver.pages} pages, ${receiver.images} images`);
  } catch (error) {
    sink.discard();
    throw error;
  } finally {
    parent?.close();
  }
  if (options.autoDedup) log.info(`${dedupAgainst(options.imagesDir)} bytes were taken out of older images`);
}

class Receiver {
  readonly #connection: PageConnection;
  readonly #sink: DirectorySink;
  readonly #parent: DirectorySource | undefined;
  readonly #log: Logger;
  readonly #known = new Set<bigint>();
  readonly #all: Opened[] = [];
  #open: Opened | undefined;
  pages = 0n;
  images = 0;

  constructor(connection: PageConnection, to: { sink: DirectorySink; parent: DirectorySource | undefined; log: Logger }) {
    this.#connection = connection;
    this.#sink = to.sink;
    this.#parent = to.parent;
    this.#log = to.log;
  }

  run(): void {
    for (;;) {
      // A sender freezes and looks for a long time between two messages; that it lives, TCP tells.
      const message = this.#connection.receive({ timeoutMs: -1 });
      if (message === undefined) throw this.#connection.lost("it ended before the sender said that it had done");
      if (this.#take(message)) return;
    }
  }

  /** True: the sender has done. */
  #take(message: PageMessage): boolean {
    switch (message.command) {
      case COMMAND.OPEN:
        this.#begin(message);
        return false;
      case COMMAND.OPEN2:
        this.#connection.write(Buffer.from([this.#begin(message) ? 1 : 0]));
        return false;
      case COMMAND.PARENT:
        this.#connection.write(int32(this.#answerOf(message)));
        return false;
      case COMMAND.ADD:
        this.#add(message, PAGE_RUN.PRESENT);
        return false;
      case COMMAND.HOLE:
        this.#add(message, PAGE_RUN.IN_PARENT);
        return false;
      case COMMAND.ADD_F:
        this.#add(message, message.flags);
        return false;
      case COMMAND.CLOSE:
      case COMMAND.FORCE_CLOSE:
        for (const opened of this.#all) this.#describe(opened);
        this.#sink.finish(true);
        this.#connection.write(int32(0));
        return true;
      default:
        throw this.#connection.bad(`command ${message.command} is unknown`);
    }
  }

  #destination({ dst }: PageMessage): PagesOf {
    const of = decodeDestination(dst);
    if (of === undefined) throw this.#connection.bad(`0x${dst.toString(16)} is neither a process nor an object`);
    return of;
  }

  #hasParent({ kind, id }: PagesOf): boolean {
    return this.#parent?.exists(kind, [id]) === true;
  }

  /** What is said to a PARENT. */
  #answerOf(message: PageMessage): number {
    const of = this.#destination(message);
    if (!this.#hasParent(of)) return 0;
    if (message.pages !== SAME_PAGES) return 1;
    if (!canDigest()) return 0;
    return summaryOf(digestsOfStored(pagesOfParent(this.#parent, of))) === message.vaddr ? SAME_PAGES_YES : 0;
  }

  /** Returns whether the images of the dump before have pages of it, too. */
  #begin(message: PageMessage): boolean {
    const of = this.#destination(message);
    if (this.#known.has(message.dst)) throw this.#connection.bad(`${imageFileName(of.kind, [of.id])} is opened twice`);
    if (this.#known.size >= MAX_OPENED) throw this.#connection.bad(`more than ${MAX_OPENED} images are opened`);
    const pagesId = FIRST_PAGES_ID + this.#known.size;
    this.#known.add(message.dst);
    this.images++;
    const fd = this.#sink.rawFile(imageFileName("PAGES", [pagesId]));
    this.#sink.append(of.kind, [of.id], { type: pagemapHead, value: { pages_id: pagesId } });
    this.#open = { of, dst: message.dst, pagesId, fd, offset: 0n, end: 0n, runs: [] };
    this.#all.push(this.#open);
    this.#log.debug(`opened ${imageFileName(of.kind, [of.id])}`);
    return this.#hasParent(of);
  }

  #add({ dst, vaddr, pages }: PageMessage, flags: number): void {
    const open = this.#open;
    if (open === undefined || open.dst !== dst) throw this.#connection.bad(`pages come for 0x${dst.toString(16)}, which is not open`);
    if (pages === 0n) return;
    if (vaddr < open.end) throw this.#connection.bad(`the pages at 0x${vaddr.toString(16)} lie below those before`);
    if ((flags & ~KNOWN_FLAGS) !== 0) throw this.#connection.bad(`pages have unknown flags (0x${flags.toString(16)})`);
    if ((flags & PAGE_RUN.IN_PARENT) !== 0 && this.#parent === undefined)
      throw this.#connection.bad("pages are said to be in the images of the dump before, and there are none (--prev-images-dir)");
    const bytes = pages * PAGE_BYTES;
    if ((flags & PAGE_RUN.PRESENT) !== 0) {
      this.#connection.receiveInto({ fd: open.fd, offset: open.offset, bytes });
      open.offset += bytes;
      this.pages += pages;
    }
    open.end = vaddr + bytes;
    open.runs.push({ start: vaddr, end: open.end, flags });
  }

  /** Writes the pagemap of what came. */
  #describe({ of, fd, runs }: Opened): void {
    const write = ({ start, end, flags }: Received) =>
      this.#sink.append(of.kind, [of.id], { type: pagemapEntry, value: pageRun(start, end, flags) });
    if (this.#parent === undefined || !this.#hasParent(of)) {
      for (const run of runs) write(run);
      return;
    }
    const hasBytes = ({ flags }: Received) => (flags & PAGE_RUN.PRESENT) !== 0;
    const came = runs.filter(hasBytes).map(({ start, end, flags }) => ({ start, end, lazy: (flags & PAGE_RUN.LAZY) !== 0 }));
    const thinned = thin(fd, came, pagesOfParent(this.#parent, of)).map(({ start, end, lazy, inParent }) => {
      const flags = inParent ? PAGE_RUN.IN_PARENT : PAGE_RUN.PRESENT | (lazy ? PAGE_RUN.LAZY : 0);
      return { start, end, flags };
    });
    const others = runs.filter((run) => !hasBytes(run));
    for (const run of [...thinned, ...others].sort((a, b) => (a.start < b.start ? -1 : 1))) write(run);
  }
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

/** Refuses a directory without images before a server for it is started. */
export function requireImages(directory: string): void {
  if (existsSync(`${directory}/${imageFileName("PSTREE", [])}`)) return;
  throw new UsageError({
    code: "IMAGES_DIR_UNUSABLE",
    message: `Cannot serve pages of "${directory}": there is no ${imageFileName("PSTREE", [])} in it`,
    remedy: ["Name the directory of a dump with --images-dir"],
  });
}
