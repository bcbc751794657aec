/**
 * Robust futex lists and restartable sequences: get_robust_list(2), rseq(2).
 *
 * Source: uapi/linux/futex.h, uapi/linux/rseq.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

/** sizeof(struct robust_list_head): the only length set_robust_list(2) takes. */
export const ROBUST_LIST_HEAD_BYTES = 24;

/** What a thread has registered; address 0: nothing. */
export interface RobustList {
  readonly head: bigint;
  readonly sizeBytes: number;
}

/** long get_robust_list(int pid, struct robust_list_head **head_ptr, size_t *len_ptr) — of thread `tid`, 0: the caller. */
export function getRobustList(tid: number): RobustList {
  const bytes = Buffer.alloc(16);
  const size = bytes.subarray(8);
  checked(syscallNumber(SYS.get_robust_list, tid, bytes, size), () => `get_robust_list(${tid})`);
  return { head: bytes.readBigUInt64LE(0), sizeBytes: Number(size.readBigUInt64LE(0)) };
}

/** struct rseq: where the fields lie. */
export const RSEQ = { cpuIdStart: 0, cpuId: 4, rseqCs: 8, flags: 16, nodeId: 20, mmCid: 24 } as const;

/** struct rseq_cs, the descriptor of a critical section. */
export interface RseqCriticalSection {
  readonly version: number;
  readonly flags: number;
  readonly start: bigint;
  readonly postCommitOffset: bigint;
  readonly abort: bigint;
}

export const RSEQ_CS_BYTES = 32;

export function decodeRseqCriticalSection(bytes: Buffer): RseqCriticalSection {
  return {
    version: bytes.readUInt32LE(0),
    flags: bytes.readUInt32LE(4),
    start: bytes.readBigUInt64LE(8),
    postCommitOffset: bytes.readBigUInt64LE(16),
    abort: bytes.readBigUInt64LE(24),
  };
}
