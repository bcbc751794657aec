/**
 * Pages from a page server (`page-server --lazy-pages`, or a dump with --lazy-pages on the other machine): asked for by GET,
 * answered in order by ADD_F and the bytes.
 */
import { UsageError } from "../../errors.js";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap } from "../../linux/memory.js";
import { POLLIN, poll, readMemory, readWhole } from "../../linux/streams.js";
import { PAGE_RUN } from "../../resources/memory/page-source.js";
import { PAGE_BYTES, type PageConnection } from "../page-server/connection.js";
import { EVERYTHING } from "../page-server/give.js";
import { COMMAND } from "../page-server/wire.js";

/** What one answer may bring at most, and one question asks for. */
const ANSWER_BYTES = 4 << 20;
const QUESTION_BYTES = 256n << 10n;
/** So many questions are under way when nobody waits for a page. */
const UNDER_WAY = 4;
/** How often and after how long a connection that broke is tried again. */
const TRIES = 40;
const NAP_MS = 250;

/** Puts bytes in place; false: not all could be, try again later. */
type Deliver = (pid: number, origin: bigint, held: { readonly address: bigint; readonly bytes: bigint }) => boolean;

interface Question {
  readonly pid: number;
  readonly start: bigint;
  readonly end: bigint;
}

interface Answer {
  readonly pid: number;
  readonly origin: bigint;
  readonly address: bigint;
  readonly bytes: bigint;
}

export class RemotePages {
  #connection: PageConnection;
  readonly #dial: () => PageConnection;
  readonly #questions: Question[] = [];
  /** Came, and could not be put in place yet. */
  #kept: Answer[] = [];

  /** `dial` connects; it is called again when a connection breaks. */
  constructor(dial: () => PageConnection) {
    this.#dial = dial;
    this.#connection = dial();
  }

  get fd(): number {
    return this.#connection.fd;
  }

  /** Enough is under way. */
  get isBusy(): boolean {
    return this.#questions.length >= UNDER_WAY || this.#kept.length > 0;
  }

  /** Something could not be put in place, and is to be tried again. */
  get hasKept(): boolean {
    return this.#kept.length > 0;
  }

  get isIdle(): boolean {
    return this.#questions.length === 0;
  }

  /** Asks for at most `bytes` from page `origin` on; returns for how many. What is under way already is not asked for again. */
  request(pid: number, origin: bigint, bytes: bigint): bigint {
    const asked = this.#questions.find((q) => q.pid === pid && q.start <= origin && origin < q.end);
    if (asked !== undefined) return asked.end - origin < bytes ? asked.end - origin : bytes;
    const want = bytes < QUESTION_BYTES ? bytes : QUESTION_BYTES;
    const question = { pid, start: origin, end: origin + want };
    this.#questions.push(question);
    try {
      this.#ask(question);
    } catch (error) {
      this.#again(error);
    }
    return want;
  }

  #ask({ pid, start, end }: Question): void {
    // The number of a process as it is: what CRIU asks for, too.
    this.#connection.send({ command: COMMAND.GET, pages: (end - start) / PAGE_BYTES, vaddr: start, dst: BigInt(pid) });
  }

  /** A connection broke: everything that was asked for is asked for over the next one. */
  #again(cause: unknown): void {
    if (!(cause instanceof UsageError) || cause.code !== "PAGE_PEER_LOST") throw cause;
    this.#connection.close();
    const nap = new Int32Array(new SharedArrayBuffer(4));
    for (let left = TRIES; ; left--) {
      try {
        this.#connection = this.#dial();
        for (const question of this.#questions) this.#ask(question);
        return;
      } catch (error) {
        if (left === 0 || !(error instanceof UsageError)) throw cause;
        Atomics.wait(nap, 0, 0, NAP_MS);
      }
    }
  }

  /** Takes what has come. */
  collect(deliver: Deliver): void {
    const kept = this.#kept;
    this.#kept = [];
    for (const answer of kept) this.#put(answer, deliver);
    while (this.#questions.length > 0) {
      const [events = 0] = poll([{ fd: this.fd, events: POLLIN }], 0);
      if (events === 0) return;
      const answer = this.#next();
      if (answer !== undefined) this.#put(answer, deliver);
    }
  }

  #put(answer: Answer, deliver: Deliver): void {
    const { pid, origin, address, bytes } = answer;
    if (deliver(pid, origin, { address, bytes })) munmap({ address, sizeBytes: bytes });
    else this.#kept.push(answer);
  }

  #next(): Answer | undefined {
    try {
      const answer = this.#receive();
      this.#questions.shift();
      return answer;
    } catch (error) {
      this.#again(error);
      return undefined;
    }
  }

  #receive(): Answer {
    const question = this.#questions[0] as Question;
    const connection = this.#connection;
    const message = connection.receive();
    if (message === undefined) throw connection.lost("it ended before all pages had come");
    const { command, flags, pages, vaddr } = message;
    const bytes = pages * PAGE_BYTES;
    const isAnswer = command === COMMAND.ADD_F && (flags & PAGE_RUN.PRESENT) !== 0 && vaddr === question.start;
    if (!isAnswer || bytes === 0n || bytes > BigInt(ANSWER_BYTES)) {
      throw connection.bad(`${pages} pages at 0x${vaddr.toString(16)} (command ${command}, flags ${flags}) answer what was asked for`);
    }
    const address = mmap({ sizeBytes: bytes, protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS });
    const got = connection.run((patience) => readMemory(this.fd, { address, sizeBytes: Number(bytes) }, patience));
    if (got < Number(bytes)) throw connection.lost("in the middle of pages");
    return { pid: question.pid, origin: vaddr, address, bytes };
  }

  /** Everything is in place. */
  end(): void {
    this.#connection.send({ command: COMMAND.CLOSE, pages: EVERYTHING });
    // Some servers answer, others just end.
    this.#connection.run((patience) => readWhole(this.fd, Buffer.alloc(4), patience));
    this.#connection.close();
  }
}
