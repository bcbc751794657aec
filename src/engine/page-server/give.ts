/**
 * Serving pages to a lazy-pages daemon: out of images, or out of processes that stand still for it (a dump with --lazy-pages).
 */
import { closeSync, openSync, readSync } from "node:fs";
import { DirectorySource } from "../../images/source.js";
import type { PageRange } from "../../resources/memory/page-runs.js";
import { difference, intersection } from "../../resources/memory/page-ranges.js";
import {
  PAGE_RUN,
  type PageSource,
  type StoredRun,
  doneWith,
  openPageSource,
  partOf,
  placeOf,
  readPages,
} from "../../resources/memory/page-source.js";
import type { Logger } from "../log.js";
import { PAGE_BYTES, type PageConnection } from "./connection.js";
import { int32 } from "./receive.js";
import { COMMAND, type PageMessage, decodeDestination } from "./wire.js";

const COPY_BYTES = 256 << 10;
/** More than that in one answer is not meant. */
const MOST_BYTES = 1n << 30n;
/** In the number of pages of a CLOSE, where nobody looks: a daemon of ours has put everything in place that is still wanted. */
export const EVERYTHING = 1n;

/** Where pages are. */
export interface PageStore {
  has(pid: number): boolean;
  /** Which of [start, end) are there. */
  within(pid: number, range: PageRange): readonly PageRange[];
  send(connection: PageConnection, pid: number, range: PageRange): void;
  close(): void;
}

/** What is known when a daemon has gone. */
export interface Given {
  /** It said that it has done. */
  readonly isClosed: boolean;
  /** It said, too, that nothing is missing. */
  readonly isEverything: boolean;
}

/** Answers questions until the daemon says that it has done, or is gone. `given` is told what has been sent. */
export function givePages(
  connection: PageConnection,
  store: PageStore,
  tools: { log: Logger; given?: (pid: number, range: PageRange) => void },
): Given {
  for (;;) {
    // A daemon asks when a process does: that may take any time.
    const message = connection.receive({ timeoutMs: -1 });
    if (message === undefined) return { isClosed: false, isEverything: false };
    switch (message.command) {
      case COMMAND.PARENT: {
        const of = decodeDestination(message.dst);
        connection.write(int32(of !== undefined && store.has(Number(of.id)) ? 1 : 0));
        break;
      }
      case COMMAND.GET: {
        const { pid, range } = answer(connection, store, message);
        tools.given?.(pid, range);
        break;
      }
      case COMMAND.CLOSE:
      case COMMAND.FORCE_CLOSE:
        connection.write(int32(0));
        tools.log.info("the other end has done");
        return { isClosed: true, isEverything: message.pages === EVERYTHING };
      default:
        throw connection.bad(`command ${message.command} is not for a server of pages`);
    }
  }
}

function answer(connection: PageConnection, store: PageStore, { dst, pages, vaddr }: PageMessage): { pid: number; range: PageRange } {
  // The number of a process as it is, or as other messages have it.
  const of = decodeDestination(dst);
  const pid = store.has(Number(dst)) ? Number(dst) : of?.kind === "PAGEMAP" ? Number(of.id) : 0;
  const range = { start: vaddr, end: vaddr + pages * PAGE_BYTES };
  if (!store.has(pid)) throw connection.bad(`there is no process ${dst}`);
  if (pages === 0n || range.end - range.start > MOST_BYTES) throw connection.bad(`${pages} pages are asked for`);
  const lacking = difference([range], store.within(pid, range));
  if (lacking.length > 0) throw connection.bad(`the page at 0x${lacking[0]?.start.toString(16)} of process ${pid} is not here`);
  connection.send({ command: COMMAND.ADD_F, flags: PAGE_RUN.PRESENT, pages, vaddr, dst });
  store.send(connection, pid, range);
  return { pid, range };
}

/** Pages of images in a directory. */
export class ImageStore implements PageStore {
  readonly #images: DirectorySource;
  readonly #sources = new Map<number, PageSource>();

  constructor(directory: string) {
    this.#images = new DirectorySource(directory);
  }

  has(pid: number): boolean {
    return this.#images.exists("PAGEMAP", [pid]);
  }

  within(pid: number, range: PageRange): readonly PageRange[] {
    return intersection(this.#source(pid).runs, [range]);
  }

  send(connection: PageConnection, pid: number, range: PageRange): void {
    for (const { start, end } of this.within(pid, range)) {
      const run = this.#source(pid).runs.find((one) => one.start <= start && start < one.end) as StoredRun;
      const part = partOf(run, start, end);
      if (run.file.isPlain) connection.sendFile({ ...placeOf(part), bytes: end - start });
      else sendCopied(connection, part);
    }
  }

  #source(pid: number): PageSource {
    let source = this.#sources.get(pid);
    if (source === undefined) {
      source = openPageSource(this.#images, { kind: "PAGEMAP", id: pid });
      this.#sources.set(pid, source);
    }
    return source;
  }

  close(): void {
    this.#images.close();
  }
}

/** What is unpacked for it is given back at once, and must not be on its way in the connection then. */
function sendCopied(connection: PageConnection, part: StoredRun): void {
  for (let at = part.start; at < part.end; ) {
    const bytes = Buffer.allocUnsafe(Number(part.end - at < BigInt(COPY_BYTES) ? part.end - at : BigInt(COPY_BYTES)));
    readPages(part, at, bytes);
    connection.write(bytes);
    at += BigInt(bytes.length);
  }
  doneWith(part);
}

/** Memory of a process that stands still. */
export interface LeftMemory {
  /** The process as the images name it, and as we do. */
  readonly pid: number;
  readonly ownPid: number;
  readonly ranges: readonly PageRange[];
}

/** Memory of processes that stand still. */
export class MemoryStore implements PageStore {
  readonly #left: ReadonlyMap<number, LeftMemory>;
  readonly #memories = new Map<number, number>();
  readonly #buffer = Buffer.allocUnsafeSlow(COPY_BYTES);

  constructor(left: readonly LeftMemory[]) {
    this.#left = new Map(left.map((one) => [one.pid, one]));
  }

  has(pid: number): boolean {
    return this.#left.has(pid);
  }

  within(pid: number, range: PageRange): readonly PageRange[] {
    return intersection(this.#left.get(pid)?.ranges ?? [], [range]);
  }

  send(connection: PageConnection, pid: number, { start, end }: PageRange): void {
    const memory = this.#memory(pid);
    for (let at = start; at < end; ) {
      const want = end - at < BigInt(COPY_BYTES) ? Number(end - at) : COPY_BYTES;
      const got = readSync(memory, this.#buffer, 0, want, at);
      if (got <= 0) throw new Error(`internal error: nothing was read of the memory of process ${pid} at 0x${at.toString(16)}`);
      connection.write(this.#buffer.subarray(0, got));
      at += BigInt(got);
    }
  }

  /** /proc/PID/mem also has what the process itself may not read. */
  #memory(pid: number): number {
    let fd = this.#memories.get(pid);
    if (fd === undefined) {
      fd = openSync(`/proc/${this.#left.get(pid)?.ownPid}/mem`, "r");
      this.#memories.set(pid, fd);
    }
    return fd;
  }

  close(): void {
    for (const fd of this.#memories.values()) closeSync(fd);
    this.#memories.clear();
  }
}
