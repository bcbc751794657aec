/**
 * Filling the memory of lazily restored processes: pages that somebody waits for first, the rest behind, until all is there.
 *
 * The processes tell when they fork, move, drop or unmap memory, and wait until that has been read. The order matters: while
 * something is being copied nothing may be read, or a page could come back to a range that was emptied meanwhile.
 */
import { closeSync, readSync, writeSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { sendFds } from "../../linux/sockets.js";
import { POLLIN, poll } from "../../linux/streams.js";
import { UFFD_MSG_BYTES, type UffdMessage, decodeUffdMessage } from "../../linux/userfaultfd.js";
import { faultPoint } from "../fault.js";
import type { Logger } from "../log.js";
import { receiveMessage } from "./channel.js";
import { CopyLanes } from "./copy-lanes.js";
import { ALL_IS_WELL, type GuardEnds } from "./guard.js";
import { PendingPages, type PendingRange } from "./pending.js";
import type { RemotePages } from "./remote.js";
import type { LazyImages } from "./source.js";
import { LazySpace } from "./space.js";
import { WorkingSet, readWorkingSet } from "./working-set.js";

const PAGE = 4096n;
/** So much is brought in around a page that somebody waits for. */
const AROUND = 64n << 10n;
const MESSAGES = 64;
/** So long nothing is filled but what is asked for, when a process is changing its mappings. */
const PAUSE_MS = 1;
const EAGAIN_CODE = "EAGAIN";

export interface FillerTools {
  readonly images: LazyImages;
  /** Where pages are that are not in the images directory, or all of them. */
  readonly remote: RemotePages | undefined;
  readonly log: Logger;
}

export class Filler {
  readonly #tools: FillerTools;
  readonly #channel: number;
  readonly #spaces = new Set<LazySpace>();
  readonly #workingSet = new WorkingSet();
  /** Faults that could not be served because something had to be read first. */
  #waiting: { readonly space: LazySpace; readonly page: bigint }[] = [];
  /** Faults that a server has been asked about. */
  #asked: { readonly space: LazySpace; readonly page: bigint }[] = [];
  /** Pages to come first. */
  readonly #first: { readonly pid: number; readonly page: bigint }[] = [];
  readonly #lanes = new CopyLanes();
  readonly #buffer = Buffer.alloc(MESSAGES * UFFD_MSG_BYTES);
  #isRestored = false;
  /** Leads to a guard, which has the userfaultfds, too. */
  #guard: GuardEnds | undefined;
  #faults = 0;

  constructor(channel: number, tools: FillerTools) {
    this.#channel = channel;
    this.#tools = tools;
  }

  /**
   * Fills until everything is there. If that becomes impossible, the pages that are missing are closed: a process that needs one
   * gets SIGBUS. It must not read zeros where it had contents.
   */
  run(onEnd: () => void): void {
    try {
      this.#run(onEnd);
    } catch (error) {
      for (const space of this.#spaces) {
        if (!space.poison()) this.#tools.log.error(`process ${space.pid}: pages that are missing could not be closed to it`);
        space.close();
      }
      this.#dismissGuard();
      throw error;
    }
  }

  /**
   * Lets go of processes whose memory is all there. While a guard holds their userfaultfds somebody has to go on answering: then
   * only when all are whole.
   */
  #finishWhole(): void {
    if (!this.#isRestored) return;
    const whole = [...this.#spaces].filter((space) => space.pending.isEmpty);
    if (this.#guard !== undefined && whole.length < this.#spaces.size) return;
    this.#dismissGuard();
    for (const space of whole) this.#finish(space);
  }

  #dismissGuard(): void {
    if (this.#guard === undefined) return;
    try {
      writeSync(this.#guard.pipe, ALL_IS_WELL);
    } catch {
      // It was killed: nobody is there to be told.
    }
    closeSync(this.#guard.pipe);
    closeSync(this.#guard.shelf);
    this.#guard = undefined;
  }

  /** `onEnd`: the restore has handed over everything. */
  #run(onEnd: () => void): void {
    let isIdle = true;
    while (!this.#isRestored || this.#spaces.size > 0) {
      // What could not be done is tried again soon, also when nobody says anything.
      const isDelayed = this.#waiting.length > 0 || this.#tools.remote?.hasKept === true;
      this.#look(isDelayed ? PAUSE_MS : isIdle ? -1 : 0, onEnd);
      this.#again();
      isIdle = !this.#isRestored || this.#tools.remote?.isBusy === true || (this.#waiting.length === 0 && !this.#fill());
      this.#tools.remote?.collect((pid, origin, held) => this.#deliver(pid, origin, held));
      this.#finishWhole();
    }
    this.#lanes.close();
    this.#tools.remote?.end();
    this.#workingSet.write(this.#tools.images.directory);
    this.#tools.log.info(`all pages are in place; ${this.#faults} were waited for`);
  }

  #look(timeoutMs: number, onEnd: () => void): void {
    const spaces = [...this.#spaces];
    const { remote } = this.#tools;
    const others = [
      ...(this.#isRestored ? [] : [{ fd: this.#channel, events: POLLIN }]),
      ...(remote === undefined ? [] : [{ fd: remote.fd, events: POLLIN }]),
    ];
    const events = poll([...spaces.map(({ uffd }) => ({ fd: uffd, events: POLLIN })), ...others], timeoutMs);
    spaces.forEach((space, i) => {
      // One that was read before may have been the end of this one.
      if ((events[i] ?? 0) !== 0 && this.#spaces.has(space)) this.#read(space);
    });
    if (!this.#isRestored && (events[spaces.length] ?? 0) !== 0) this.#receive(onEnd);
  }

  #receive(onEnd: () => void): void {
    const message = receiveMessage(this.#channel);
    if (message === undefined) {
      throw new UsageError({
        code: "LAZY_RESTORER_LOST",
        message: "Cannot fill memory: the restore ended before it had handed over everything",
        remedy: ["Look at the log of the restore"],
      });
    }
    if (message === "end") {
      this.#isRestored = true;
      onEnd();
      return;
    }
    if ("guard" in message) {
      this.#guard = message.guard;
      faultPoint("fill-guarded");
      return;
    }
    const { pid, uffd } = message;
    const pending = new PendingPages(this.#tools.images.pendingOf(pid));
    this.#spaces.add(new LazySpace({ pid, uffd, pending }));
    for (const page of readWorkingSet(this.#tools.images.directory, pid)) this.#first.push({ pid, page });
    this.#tools.log.debug(`process ${pid}: ${pending.bytes} bytes to fill`);
  }

  #read(space: LazySpace): void {
    let got: number;
    try {
      got = readSync(space.uffd, this.#buffer);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === EAGAIN_CODE) return;
      throw error;
    }
    for (let at = 0; at + UFFD_MSG_BYTES <= got; at += UFFD_MSG_BYTES) this.#take(space, decodeUffdMessage(this.#buffer, at));
  }

  #take(space: LazySpace, message: UffdMessage): void {
    switch (message.event) {
      case "pagefault":
        this.#serve(space, message.address & ~(PAGE - 1n));
        return;
      case "fork":
        this.#shelve(space, message.fd);
        this.#spaces.add(new LazySpace({ pid: space.pid, uffd: message.fd, pending: space.pending.clone() }));
        return;
      case "remap":
        space.pending.move(message.from, message.to, message.sizeBytes);
        this.#lookAtAsked();
        return;
      case "remove":
      case "unmap":
        space.pending.remove(message.start, message.end);
        this.#lookAtAsked();
        return;
      default:
        this.#tools.log.warn(`process ${space.pid}: event ${message.number} of a userfaultfd is unknown`);
    }
  }

  /** So that a child reads no zeros should we be killed: it has run for some microseconds by now, no longer. */
  #shelve({ pid }: LazySpace, uffd: number): void {
    if (this.#guard === undefined) return;
    try {
      sendFds(this.#guard.shelf, [uffd]);
    } catch (error) {
      // Full, after some hundred children, or the guard was killed.
      this.#tools.log.warn(`a child of process ${pid} has no guard: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Whoever waits for a page that is not wanted any more (or has come) gets what is there now. */
  #lookAtAsked(): void {
    const isOver = ({ space, page }: { space: LazySpace; page: bigint }) => space.pending.at(page) === undefined;
    this.#waiting.push(...this.#asked.filter(isOver));
    this.#asked = this.#asked.filter((one) => !isOver(one));
  }

  /** A thread waits for this page. */
  #serve(space: LazySpace, page: bigint): void {
    this.#faults++;
    this.#lanes.calm();
    const range = space.pending.at(page);
    if (range === undefined) {
      this.#settle(space, page, space.zero(page));
      return;
    }
    const from = page - (page % AROUND);
    const [start, end] = [from > range.start ? from : range.start, from + AROUND < range.end ? from + AROUND : range.end];
    const origin = range.origin + (start - range.start);
    const wanted = range.origin + (page - range.start);
    this.#workingSet.note(space.pid, wanted);
    // What is not in the images any more, or not yet, is asked for elsewhere.
    const held = this.#tools.images.hold(space.pid, origin, end - start);
    if (held !== undefined && held.bytes > page - start) {
      this.#settle(space, page, space.copy(start, start + held.bytes, held.address));
      held.done();
      return;
    }
    const single = this.#tools.images.hold(space.pid, wanted, PAGE);
    if (single !== undefined) {
      this.#settle(space, page, space.copy(page, page + PAGE, single.address));
      single.done();
      return;
    }
    this.#asked.push({ space, page });
    this.#remote().request(space.pid, wanted, range.end - page < AROUND ? range.end - page : AROUND);
  }

  #remote(): RemotePages {
    if (this.#tools.remote !== undefined) return this.#tools.remote;
    throw new UsageError({
      code: "LAZY_PAGES_ABSENT",
      message: `Cannot fill memory: pages are neither in "${this.#tools.images.directory}" nor at a page server`,
      remedy: ["Name the server that has them: --page-server --address ADDRESS --port PORT"],
    });
  }

  #settle(space: LazySpace, page: bigint, became: "done" | "again" | "dead"): void {
    if (became === "again") this.#waiting.push({ space, page });
    if (became === "dead") this.#finish(space);
  }

  /** Serves what could not be served before. */
  #again(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { space, page } of waiting) if (this.#spaces.has(space)) this.#serve(space, page);
  }

  /** Pages that came from the server go to everybody who lacks them. */
  #deliver(pid: number, origin: bigint, held: { readonly address: bigint; readonly bytes: bigint }): boolean {
    let isSettled = true;
    for (const space of this.#spaces) {
      if (space.pid !== pid) continue;
      for (const part of space.pending.ofImage(origin, origin + held.bytes)) {
        const became = space.copy(part.start, part.end, held.address + (part.origin - origin));
        if (became === "again") isSettled = false;
        if (became === "dead") this.#finish(space);
      }
    }
    this.#asked = this.#asked.filter(({ space, page }) => space.pending.at(page) !== undefined);
    return isSettled;
  }

  /** Some of the rest: what was asked for first the last time, then one after the other. False: all of it is under way. */
  #fill(): boolean {
    while (this.#first.length > 0) {
      const { pid, page } = this.#first.shift() as { pid: number; page: bigint };
      const own = [...this.#spaces].filter((space) => space.pid === pid);
      const parts = own.flatMap((space) => around(space, page).map((part) => ({ space, part })));
      for (const { space, part } of parts) this.#bring(space, part);
      if (parts.length > 0) return true;
    }
    const { images, remote } = this.#tools;
    for (const space of this.#spaces) {
      const from = space.pending.next(space.cursor);
      if (from === undefined) continue;
      if (images.has(space.pid, from.origin)) {
        if (this.#lanes.fill(space, images) === "dead") this.#finish(space);
        return true;
      }
      // Everything has been asked for once: whatever is under way comes first.
      const isRound = from.end <= space.cursor || from.start < space.cursor;
      const start = from.start < space.cursor && space.cursor < from.end ? space.cursor : from.start;
      if (isRound && start === from.start && remote?.isIdle === false) continue;
      space.cursor = start + this.#remote().request(space.pid, from.origin + (start - from.start), from.end - start);
      return true;
    }
    return false;
  }

  #bring(space: LazySpace, part: PendingRange): void {
    const held = this.#tools.images.hold(space.pid, part.origin, part.end - part.start);
    if (held === undefined) {
      this.#remote().request(space.pid, part.origin, part.end - part.start);
      return;
    }
    // Whoever waits meanwhile asks himself.
    if (space.copy(part.start, part.start + held.bytes, held.address) === "dead") this.#finish(space);
    held.done();
  }

  #finish(space: LazySpace): void {
    if (!this.#spaces.delete(space)) return;
    this.#waiting = this.#waiting.filter((one) => one.space !== space);
    space.close();
    this.#tools.log.debug(`process ${space.pid}: ${space.pending.isEmpty ? "all pages are there" : "it has ended"}`);
  }
}

/** What is pending of the block that page `origin` of the images lies in. */
function around(space: LazySpace, origin: bigint): PendingRange[] {
  if (space.pending.ofImage(origin, origin + PAGE).length === 0) return [];
  const start = origin - (origin % AROUND);
  return space.pending.ofImage(start, start + AROUND);
}
