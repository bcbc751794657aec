/**
 * What the kernel says about each of many threads, by one native run over a table of calls that was made before the freeze: stat, status,
 * and the extended registers.
 *
 * The files in /proc are opened before the freeze and belong to the thread for good: should its number be given to another one, they say
 * that it is gone. They are read while it stands still; nothing of what they said before is used, but that the thread is no worker of
 * the kernel's.
 */
import { closeSync, openSync } from "node:fs";
import { addressOf } from "../linux/ffi/native.unsafe.js";
import { Lanes, nativeFunction } from "../linux/lanes.js";
import { RLIMIT } from "../linux/limits.js";
import { PreparedCalls } from "../linux/prepared-calls.js";
import { readThreadIds } from "../linux/proc/list.js";
import { readLimits } from "../linux/proc/read.js";
import { type ProcStat, parseStat } from "../linux/proc/stat.js";
import { type ProcStatus, parseStatus } from "../linux/proc/status.js";
import { NT_X86_XSTATE, PTRACE_GETREGSET } from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { knownXstateBytes } from "./x86_64/xstate.js";

/** PF_IO_WORKER and PF_USER_WORKER (linux/sched.h): threads of io_uring that run in the kernel only and never stop for a tracer. */
export const PF_WORKER = 0x10 | 0x4000;

/** With fewer it is not worth it: the code for it would run for the first time in the freeze. */
const MANY = 32;
/** So much memory is worth it: each thread takes some seven kilobytes. */
const MOST_BYTES = 64 << 20;
/** Descriptors that are left for the dump itself. */
const SPARE_DESCRIPTORS = 1024n;

/** Room for a text; a longer one is read by itself. */
const STAT_BYTES = 1024;
const STATUS_BYTES = 3072;
const XSTATE_OFFSET = STAT_BYTES + STATUS_BYTES;
const IOVEC_BYTES = 16;
/** The calls for a thread. */
const CALL = { stat: 0, status: 1, xstate: 2, end: 3 };

interface Numbered {
  readonly pid: number;
  readonly tid: number;
}

/** What was read of a thread. */
export interface ThreadTexts {
  readonly stat: ProcStat;
  readonly status: ProcStatus;
  /** XSAVE area. */
  readonly xstate: Buffer;
}

export class PreparedThreads implements Disposable {
  readonly #threads: readonly Numbered[];
  readonly #fds: readonly number[];
  /** Threads that were no workers of the kernel's. */
  readonly ordinary: ReadonlySet<number>;
  readonly #indexOf: ReadonlyMap<number, number>;
  readonly #slotBytes: number;
  readonly #slots: Buffer;
  readonly #iovecs: Buffer;
  readonly #calls: PreparedCalls;
  readonly #lanes = new Lanes({ areaBytes: 1, count: 1 });

  private constructor(threads: readonly Numbered[], fds: readonly number[], xstateBytes: number) {
    this.#threads = threads;
    this.#fds = fds;
    this.#indexOf = new Map(threads.map(({ tid }, i) => [tid, i]));
    this.#slotBytes = (XSTATE_OFFSET + xstateBytes + 63) & ~63;
    this.#slots = Buffer.allocUnsafeSlow(this.#slotBytes * threads.length).fill(0);
    this.#iovecs = Buffer.allocUnsafeSlow(IOVEC_BYTES * threads.length);
    this.#calls = new PreparedCalls({ groups: threads.length, calls: CALL.end });
    this.#prepare(xstateBytes);
    this.#run();
    this.ordinary = new Set(threads.filter((_, i) => this.#isOrdinary(i)).map(({ tid }) => tid));
  }

  /** Of the threads of running processes; undefined where they are few, or too many. */
  static of(pids: readonly number[]): PreparedThreads | undefined {
    const xstateBytes = knownXstateBytes();
    const threads = pids.flatMap((pid) => threadsOf(pid).map((tid) => ({ pid, tid })));
    if (xstateBytes === undefined || threads.length < MANY) return undefined;
    if (threads.length * (XSTATE_OFFSET + xstateBytes) > MOST_BYTES) return undefined;
    const room = readLimits(process.pid)[RLIMIT.NOFILE]?.soft ?? 0n;
    if (BigInt(threads.length * 2) + SPARE_DESCRIPTORS > room) return undefined;
    const fds: number[] = [];
    try {
      const living = threads.filter((thread) => open(thread, fds));
      return new PreparedThreads(living, fds, xstateBytes);
    } catch {
      for (const fd of fds) closeSync(fd);
      return undefined;
    }
  }

  #prepare(xstateBytes: number): void {
    const [slots, iovecs] = [addressOf(this.#slots), addressOf(this.#iovecs)];
    const syscall = nativeFunction("syscall");
    const [pread64, ptrace] = [BigInt(SYS.pread64), BigInt(SYS.ptrace)];
    this.#threads.forEach(({ tid }, i) => {
      const slot = slots + BigInt(i * this.#slotBytes);
      const [stat = -1, status = -1] = this.#fds.slice(i * 2, i * 2 + 2);
      this.#calls.put(i, CALL.stat, syscall, pread64, BigInt(stat), slot, BigInt(STAT_BYTES), 0n);
      this.#calls.put(i, CALL.status, syscall, pread64, BigInt(status), slot + BigInt(STAT_BYTES), BigInt(STATUS_BYTES), 0n);
      const iovec = iovecs + BigInt(i * IOVEC_BYTES);
      this.#calls.put(i, CALL.xstate, syscall, ptrace, BigInt(PTRACE_GETREGSET), BigInt(tid), BigInt(NT_X86_XSTATE), iovec);
      this.#iovecs.writeBigUInt64LE(slot + BigInt(XSTATE_OFFSET), i * IOVEC_BYTES);
      this.#iovecs.writeBigUInt64LE(BigInt(xstateBytes), i * IOVEC_BYTES + 8);
    });
  }

  #run(): void {
    for (let i = 0; i < this.#threads.length; i++) {
      for (let call = 0; call < CALL.end; call++) this.#calls.setResult(i, call, -1n);
    }
    this.#calls.run(this.#lanes);
  }

  #isOrdinary(index: number): boolean {
    const length = this.#calls.result(index, CALL.stat);
    if (length <= 0 || length >= STAT_BYTES) return false;
    return (parseStat(this.#slots.subarray(index * this.#slotBytes, index * this.#slotBytes + length), "stat").flags & PF_WORKER) === 0;
  }

  /** Reads all of them, which must stand still and be held; gives what was read of one by its number. Once only. */
  read(): (tid: number) => ThreadTexts | undefined {
    this.#run();
    return (tid) => {
      const index = this.#indexOf.get(tid);
      return index === undefined ? undefined : this.#textsOf(index);
    };
  }

  #textsOf(index: number): ThreadTexts | undefined {
    const stat = this.#calls.result(index, CALL.stat);
    const status = this.#calls.result(index, CALL.status);
    // What fills its room may be longer.
    if (this.#calls.result(index, CALL.xstate) !== 0 || stat >= STAT_BYTES || status >= STATUS_BYTES) return undefined;
    const at = index * this.#slotBytes;
    const { pid, tid } = this.#threads[index] as Numbered;
    const text = at + STAT_BYTES;
    return {
      stat: parseStat(this.#slots.subarray(at, at + stat), `/proc/${pid}/task/${tid}/stat`),
      status: parseStatus(this.#slots.subarray(text, text + status), `/proc/${pid}/task/${tid}/status`),
      xstate: this.#slots.subarray(at + XSTATE_OFFSET, at + XSTATE_OFFSET + this.#iovecs.readUInt32LE(index * IOVEC_BYTES + 8)),
    };
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) closeSync(fd);
    this.#lanes.close();
  }
}

/** Threads beside the first one, which is read with its process. */
function threadsOf(pid: number): number[] {
  try {
    return readThreadIds(pid).filter((tid) => tid !== pid);
  } catch {
    return []; // it has ended
  }
}

/** Adds the two files of a thread; whether it is there still. */
function open({ pid, tid }: Numbered, fds: number[]): boolean {
  const own: number[] = [];
  try {
    for (const name of ["stat", "status"]) own.push(openSync(`/proc/${pid}/task/${tid}/${name}`, "r"));
  } catch {
    for (const fd of own) closeSync(fd);
    return false;
  }
  fds.push(...own);
  return true;
}
