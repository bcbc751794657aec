/**
 * io_uring(7): making rings, the memory that they share with the kernel, and taking their counters forward.
 *
 * Source: uapi/linux/io_uring.h.
 */
import { checked } from "./errno.js";
import { syscallNumber, viewMemory } from "./ffi/native.unsafe.js";
import { MAP_POPULATE, MAP_SHARED, PAGE_BYTES, PROT_READ, PROT_WRITE, mmap, munmap } from "./memory.js";
import { SYS } from "./syscalls.js";

export const IORING_SETUP_CQSIZE = 1 << 3;
export const IORING_SETUP_SQE128 = 1 << 10;
export const IORING_SETUP_CQE32 = 1 << 11;
export const IORING_SETUP_NO_SQARRAY = 1 << 16;

export const IORING_OFF_SQ_RING = 0n;
export const IORING_OFF_CQ_RING = 0x800_0000n;
export const IORING_OFF_SQES = 0x1000_0000n;

export const IORING_ENTER_GETEVENTS = 1 << 0;
export const IORING_ENTER_REGISTERED_RING = 1 << 4;

export const IORING_REGISTER_BUFFERS = 0;
export const IORING_REGISTER_FILES = 2;
export const IORING_REGISTER_EVENTFD = 4;
export const IORING_REGISTER_RESTRICTIONS = 11;
export const IORING_REGISTER_RING_FDS = 20;
export const IORING_REGISTER_PBUF_STATUS = 26;

/** struct io_uring_buf_status, struct io_uring_rsrc_update: sizes in bytes. */
export const BUF_STATUS_BYTES = 40;
export const RSRC_UPDATE_BYTES = 16;
/** Rings that a thread can have registered (IO_RINGFD_REG_MAX of the kernel). */
export const REGISTERED_RINGS = 16;
/** IORING_MAX_ENTRIES of the kernel; twice as many completions. */
export const MAX_ENTRIES = 32768;

/** struct io_uring_params */
const PARAMS_BYTES = 120;
const PARAMS = { sqEntries: 0, cqEntries: 4, flags: 8, sqOff: 40, cqOff: 80 };
const SQE_BYTES = 64;
const CQE_BYTES = 16;

/** What a ring is made with. */
export interface RingShape {
  readonly sqEntries: number;
  readonly cqEntries: number;
  /** IORING_SETUP_…, without IORING_SETUP_CQSIZE. */
  readonly flags: number;
}

/** Where things lie in the memory of a ring: offsets in bytes, and the lengths of both parts, in whole pages. */
export interface RingLayout {
  readonly sqHead: number;
  readonly sqTail: number;
  readonly cqHead: number;
  readonly cqTail: number;
  readonly cqes: number;
  /** 0: there is none. */
  readonly array: number;
  readonly ringBytes: number;
  readonly requestBytes: number;
}

/** The third argument of io_uring_setup(2); the kernel writes the layout into it. */
export function encodeRingParams({ cqEntries, flags }: RingShape): Buffer {
  const params = Buffer.alloc(PARAMS_BYTES);
  params.writeUInt32LE(cqEntries, PARAMS.cqEntries);
  params.writeUInt32LE(flags | IORING_SETUP_CQSIZE, PARAMS.flags);
  return params;
}

const wholePages = (bytes: number) => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

function decodeLayout(params: Buffer): RingLayout {
  const at = (base: number, index: number) => params.readUInt32LE(base + index * 4);
  const [sqEntries, cqEntries, flags] = [at(PARAMS.sqEntries, 0), at(PARAMS.cqEntries, 0), at(PARAMS.flags, 0)];
  const array = at(PARAMS.sqOff, 6);
  const cqes = at(PARAMS.cqOff, 5);
  const cqeBytes = flags & IORING_SETUP_CQE32 ? 2 * CQE_BYTES : CQE_BYTES;
  const sqeBytes = flags & IORING_SETUP_SQE128 ? 2 * SQE_BYTES : SQE_BYTES;
  return {
    sqHead: at(PARAMS.sqOff, 0),
    sqTail: at(PARAMS.sqOff, 1),
    cqHead: at(PARAMS.cqOff, 0),
    cqTail: at(PARAMS.cqOff, 1),
    cqes,
    array,
    ringBytes: wholePages(array === 0 ? cqes + cqEntries * cqeBytes : array + sqEntries * 4),
    requestBytes: wholePages(sqEntries * sqeBytes),
  };
}

/** How this kernel lays out a ring of such a shape: one of our own is made and closed. */
export function layoutOf(shape: RingShape): RingLayout {
  const params = encodeRingParams(shape);
  const fd = checked(syscallNumber(SYS.io_uring_setup, shape.sqEntries, params), () => `io_uring_setup(${shape.sqEntries})`);
  syscallNumber(SYS.close, fd);
  return decodeLayout(params);
}

/** The memory of a ring, mapped into Floe while `use` runs: counters with completions, and requests. */
export function withRing<T>(fd: number, layout: RingLayout, use: (memory: { ring: Buffer; requests: Buffer }) => T): T {
  const protection = PROT_READ | PROT_WRITE;
  const flags = MAP_SHARED | MAP_POPULATE;
  const ringRange = { sizeBytes: BigInt(layout.ringBytes) };
  const requestRange = { sizeBytes: BigInt(layout.requestBytes) };
  const ring = mmap({ ...ringRange, protection, flags, fd, offset: IORING_OFF_SQ_RING });
  try {
    const requests = mmap({ ...requestRange, protection, flags, fd, offset: IORING_OFF_SQES });
    try {
      return use({ ring: viewMemory(ring, layout.ringBytes), requests: viewMemory(requests, layout.requestBytes) });
    } finally {
      munmap({ address: requests, ...requestRange });
    }
  } finally {
    munmap({ address: ring, ...ringRange });
  }
}

/** Whether the requests of a ring take `bytes` of memory. */
export function hasRequestBytes(fd: number, bytes: number): boolean {
  const sizeBytes = BigInt(bytes);
  const got = BigInt(syscallNumber(SYS.mmap, 0, sizeBytes, PROT_READ, MAP_SHARED, fd, IORING_OFF_SQES));
  if (got < 0n) return false;
  munmap({ address: got, sizeBytes });
  return true;
}

/**
 * Takes the counters of a new ring from 0 to `count`, by as many requests for nothing (IORING_OP_NOP, which is 0 throughout):
 * there is no other way. Completions are taken as they come.
 */
export function advanceRing(fd: number, ring: Buffer, of: { layout: RingLayout; shape: RingShape; count: number }): void {
  const { layout, shape, count } = of;
  const batch = Math.min(shape.sqEntries, shape.cqEntries);
  for (let done = 0; done < count; ) {
    const now = Math.min(batch, count - done);
    ring.writeUInt32LE(done + now, layout.sqTail);
    const taken = checked(syscallNumber(SYS.io_uring_enter, fd, now, 0, 0, 0, 0), () => `io_uring_enter(${fd}, ${now})`);
    done += taken;
    ring.writeUInt32LE(done, layout.cqHead);
  }
}
