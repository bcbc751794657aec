/**
 * Layout of the stub region inside a target: header and code, then one slot per thread.
 *
 * A slot is a frame followed by the memory for tables and data. The leader's slot is large (it runs the long programs),
 * the others' are small. All of it is one private anonymous mapping, readable, writable and executable.
 */

/** First bytes of a region: how a later run recognises what a killed one left behind. */
export const REGION_MAGIC = Buffer.from("\x7fFloe stub 1\n\0\0\0", "latin1");

const CODE_OFFSET = 64;
const PAGE = 4096;
export const FRAME_AREA_BYTES = 256;
/** Slot of the leader, and of every other thread, in bytes. */
export const LEADER_SLOT_BYTES = 1 << 20;
export const THREAD_SLOT_BYTES = 8 << 10;
/** End of every slot: the cleanup table, which the task works through when its tracer has died. */
const CLEANUP_BYTES = 512;
/** Calls a cleanup table can hold; the last entry is the end mark. */
export const CLEANUP_CALLS = CLEANUP_BYTES / 64 - 1;

/** One thread's part of the region. */
export interface Slot {
  readonly code: bigint;
  readonly frame: bigint;
  readonly table: bigint;
  readonly tableBytes: number;
  readonly cleanup: bigint;
}

/** Bytes a region needs for a process of `threads` threads. */
export function regionBytes(threads: number): number {
  return PAGE + LEADER_SLOT_BYTES + Math.ceil(((threads - 1) * THREAD_SLOT_BYTES) / PAGE) * PAGE;
}

/** The slot of thread number `index` (0: leader) in a region at `base`. */
export function slotAt(base: bigint, index: number): Slot {
  const offset = index === 0 ? PAGE : PAGE + LEADER_SLOT_BYTES + (index - 1) * THREAD_SLOT_BYTES;
  const size = index === 0 ? LEADER_SLOT_BYTES : THREAD_SLOT_BYTES;
  const frame = base + BigInt(offset);
  return {
    code: base + BigInt(CODE_OFFSET),
    frame,
    table: frame + BigInt(FRAME_AREA_BYTES),
    tableBytes: size - FRAME_AREA_BYTES - CLEANUP_BYTES,
    cleanup: frame + BigInt(size - CLEANUP_BYTES),
  };
}

/** First page of a region: magic and code. */
export function regionHeader(code: Uint8Array): Buffer {
  const page = Buffer.alloc(CODE_OFFSET + code.length);
  REGION_MAGIC.copy(page);
  page.set(code, CODE_OFFSET);
  return page;
}
