/**
 * Layout of the stub region inside a target: header and code, then one slot per thread.
 *
 * A slot is a frame followed by the memory for tables and data. The leader's slot is large (it runs the long programs),
 * the others' are small. All of it is one private anonymous mapping, readable, writable and executable.
 */

/** First bytes of a region: how a later run recognises what a killed one left behind. */
export const REGION_MAGIC = Buffer.from("\x7fFloe stub 1\n\0\0\0", "latin1");

/**
 * Where regions lie, one behind another: far from everything the kernel places by itself.
 *
 * So a region never borders on a mapping of the task, which the kernel would show as one with it; and one that was mapped
 * but not yet marked when its dumper was killed can be told by its place.
 */
const FIRST_PLACE = 0x1f10_e000_0000n;
const PLACE_STEP = 1n << 32n;
const PLACES = 64n;

/** The same for 32-bit processes. */
const FIRST_LOW_PLACE = 0x1f10_0000n;
const LOW_STEP = 1n << 24n;

/** Whether a mapping that starts at `address` lies at a place for regions. */
export function isRegionPlace(address: bigint): boolean {
  const isIn = (offset: bigint, step: bigint) => offset >= 0n && offset % step === 0n && offset / step < PLACES;
  return isIn(address - FIRST_PLACE, PLACE_STEP) || isIn(address - FIRST_LOW_PLACE, LOW_STEP);
}

/** The first place for a region that is not among those `taken`. Only a hint: the kernel takes another if it is not free. */
export function freeRegionPlace(taken: readonly bigint[], isCompat: boolean): bigint {
  let place = isCompat ? FIRST_LOW_PLACE : FIRST_PLACE;
  while (taken.includes(place)) place += isCompat ? LOW_STEP : PLACE_STEP;
  return place;
}

const CODE_OFFSET = 64;
const PAGE = 4096;
/** First part of a region: header and code; the only part that is executed. */
export const CODE_BYTES = PAGE;
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

/**
 * A small slot inside the leader's large one, for a task that runs in the same memory while the leader waits for its end. What the
 * leader waits in must be a short program.
 */
export function slotInside(base: bigint): Slot {
  const frame = base + BigInt(PAGE + LEADER_SLOT_BYTES / 2);
  return {
    code: base + BigInt(CODE_OFFSET),
    frame,
    table: frame + BigInt(FRAME_AREA_BYTES),
    tableBytes: THREAD_SLOT_BYTES - FRAME_AREA_BYTES - CLEANUP_BYTES,
    cleanup: frame + BigInt(THREAD_SLOT_BYTES - CLEANUP_BYTES),
  };
}

/** First page of a region: magic and code. */
export function regionHeader(code: Uint8Array): Buffer {
  const page = Buffer.alloc(CODE_OFFSET + code.length);
  REGION_MAGIC.copy(page);
  page.set(code, CODE_OFFSET);
  return page;
}
