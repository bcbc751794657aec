/**
 * /dev/kmsg: which record of the kernel's log an open file reads next. No call tells; it is read from the kernel's memory
 * (`kernel-view.ts`), kernel/printk/printk.c: struct devkmsg_user. Going there again is lseek(2) and read(2), one record each.
 */
import { readSync } from "node:fs";
import { getStatusFlags, setStatusFlags } from "./fcntl.js";
import { O_NONBLOCK, SEEK_SET, lseek } from "./files.js";
import { KernelView, sightOf } from "./kernel-view.js";

const SEQUENCE_BYTES = 8;
/** The kernel gives no longer record (PRINTK_MESSAGE_MAX). */
const RECORD_BYTES = 1 << 14;
/** Far more than any log has. */
const MOST_RECORDS = 1_000_000;

export class KernelLog {
  readonly #view: KernelView;

  private constructor(view: KernelView) {
    this.#view = view;
  }

  /** Undefined where the kernel has no type information, or lets us read nothing. */
  static open(): KernelLog | undefined {
    const sight = sightOf({ devkmsg_user: ["seq"] });
    return sight && new KernelLog(new KernelView(sight));
  }

  /** The number of the record that comes next to a reader; `fd` is a descriptor of ours. */
  nextOf(fd: number): bigint | undefined {
    const own = this.#view.privateOf(fd);
    if (own === undefined || own === 0n) return undefined;
    return this.#view.read(own + BigInt(this.#view.at("devkmsg_user", "seq")), SEQUENCE_BYTES)?.readBigUInt64LE(0);
  }
}

/** Has a new reader go on at record `next`, or at the oldest one that is there after it. */
export function goToRecord(fd: number, next: bigint): void {
  const flags = getStatusFlags(fd);
  setStatusFlags(fd, flags | O_NONBLOCK);
  try {
    const room = Buffer.alloc(RECORD_BYTES);
    for (let i = 0; i < MOST_RECORDS; i++) {
      const number = numberOf(fd, room);
      if (number === undefined || number + 1n === next) return;
      // The record is wanted itself, since those before it are not kept any more.
      if (number >= next) {
        lseek(fd, 0n, SEEK_SET);
        return;
      }
    }
  } finally {
    setStatusFlags(fd, flags);
  }
}

/** Reads a record for its number, as in `6,339,5140900,-;text`; undefined: there are no more. */
function numberOf(fd: number, room: Buffer): bigint | undefined {
  let bytes: number;
  try {
    bytes = readSync(fd, room);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Records were overwritten while we read: it goes on behind them.
    if (code === "EPIPE") return numberOf(fd, room);
    if (code === "EAGAIN") return undefined;
    throw error;
  }
  const [, number] = /^\d+,(\d+),/.exec(room.toString("latin1", 0, Math.min(bytes, 64))) ?? [];
  return number === undefined ? undefined : BigInt(number);
}
