/**
 * getrlimit(2): resource limits. Constants: uapi/asm-generic/resource.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const RLIMIT = {
  CPU: 0,
  FSIZE: 1,
  DATA: 2,
  STACK: 3,
  CORE: 4,
  RSS: 5,
  NPROC: 6,
  NOFILE: 7,
  MEMLOCK: 8,
  AS: 9,
  LOCKS: 10,
  SIGPENDING: 11,
  MSGQUEUE: 12,
  NICE: 13,
  RTPRIO: 14,
  RTTIME: 15,
} as const;

export const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/** struct rlimit64. */
export interface Rlimit {
  readonly soft: bigint;
  readonly hard: bigint;
}

export const RLIMIT_BYTES = 16;

export function encodeRlimit(limit: Rlimit): Buffer {
  const bytes = Buffer.alloc(RLIMIT_BYTES);
  bytes.writeBigUInt64LE(limit.soft, 0);
  bytes.writeBigUInt64LE(limit.hard, 8);
  return bytes;
}

export function decodeRlimit(bytes: Buffer): Rlimit {
  return { soft: bytes.readBigUInt64LE(0), hard: bytes.readBigUInt64LE(8) };
}

/**
 * int prlimit(pid_t pid, int resource, const struct rlimit *new_limit, struct rlimit *old_limit) — reads a limit.
 *
 * Of another process of another user: CAP_SYS_RESOURCE; /proc/PID/limits asks for less. `pid` 0 is the caller.
 */
export function getPrlimit(pid: number, resource: number): Rlimit {
  const bytes = Buffer.alloc(RLIMIT_BYTES);
  checked(syscallNumber(SYS.prlimit64, pid, resource, 0, bytes), () => `prlimit(${pid}, ${resource})`);
  return decodeRlimit(bytes);
}

/** prlimit(2) — sets a limit; to raise the hard one: CAP_SYS_RESOURCE. */
export function setPrlimit(pid: number, resource: number, limit: Rlimit): void {
  checked(
    syscallNumber(SYS.prlimit64, pid, resource, encodeRlimit(limit), 0),
    () => `prlimit(${pid}, ${resource}, {${limit.soft}, ${limit.hard}})`,
  );
}
