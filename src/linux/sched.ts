/**
 * sched(7): scheduling policy, priorities, processor affinity, I/O priority.
 *
 * `tid` 0 is the calling thread. Constants: uapi/linux/sched.h, uapi/linux/sched/types.h, uapi/linux/ioprio.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const SCHED_OTHER = 0;
export const SCHED_FIFO = 1;
export const SCHED_RR = 2;
export const SCHED_BATCH = 3;
export const SCHED_IDLE = 5;
export const SCHED_DEADLINE = 6;
export const SCHED_EXT = 7;
/** Or-ed into the policy number of sched_setscheduler(2). */
export const SCHED_RESET_ON_FORK = 0x4000_0000;

export const SCHED_FLAG_RESET_ON_FORK = 0x01;
export const SCHED_FLAG_RECLAIM = 0x02;
export const SCHED_FLAG_DL_OVERRUN = 0x04;
export const SCHED_FLAG_KEEP_POLICY = 0x08;
export const SCHED_FLAG_KEEP_PARAMS = 0x10;
export const SCHED_FLAG_UTIL_CLAMP_MIN = 0x20;
export const SCHED_FLAG_UTIL_CLAMP_MAX = 0x40;

/** struct sched_attr. */
export interface SchedAttr {
  readonly policy: number;
  readonly flags: bigint;
  readonly nice: number;
  /** Of SCHED_FIFO and SCHED_RR. */
  readonly priority: number;
  /** Of SCHED_DEADLINE, in nanoseconds. */
  readonly runtimeNs: bigint;
  readonly deadlineNs: bigint;
  readonly periodNs: bigint;
  /** Utilisation clamps, 0 to 1024; 0 and 1024 on kernels that do not know them. */
  readonly utilMin: number;
  readonly utilMax: number;
}

/** SCHED_ATTR_SIZE_VER1. */
export const SCHED_ATTR_BYTES = 56;
/** SCHED_ATTR_SIZE_VER0: without the clamps, for kernels before 5.3 or without CONFIG_UCLAMP_TASK. */
const SCHED_ATTR_BYTES_VER0 = 48;

export function encodeSchedAttr(attr: SchedAttr): Buffer {
  const bytes = Buffer.alloc(SCHED_ATTR_BYTES);
  bytes.writeUInt32LE(SCHED_ATTR_BYTES, 0);
  bytes.writeUInt32LE(attr.policy, 4);
  bytes.writeBigUInt64LE(attr.flags, 8);
  bytes.writeInt32LE(attr.nice, 16);
  bytes.writeUInt32LE(attr.priority, 20);
  bytes.writeBigUInt64LE(attr.runtimeNs, 24);
  bytes.writeBigUInt64LE(attr.deadlineNs, 32);
  bytes.writeBigUInt64LE(attr.periodNs, 40);
  bytes.writeUInt32LE(attr.utilMin, 48);
  bytes.writeUInt32LE(attr.utilMax, 52);
  return bytes;
}

export function decodeSchedAttr(bytes: Buffer): SchedAttr {
  const clamps = bytes.readUInt32LE(0) > SCHED_ATTR_BYTES_VER0;
  return {
    policy: bytes.readUInt32LE(4),
    flags: bytes.readBigUInt64LE(8),
    nice: bytes.readInt32LE(16),
    priority: bytes.readUInt32LE(20),
    runtimeNs: bytes.readBigUInt64LE(24),
    deadlineNs: bytes.readBigUInt64LE(32),
    periodNs: bytes.readBigUInt64LE(40),
    utilMin: clamps ? bytes.readUInt32LE(48) : 0,
    utilMax: clamps ? bytes.readUInt32LE(52) : 1024,
  };
}

/** int sched_getattr(pid_t pid, struct sched_attr *attr, unsigned int size, unsigned int flags). */
export function schedGetattr(tid: number): SchedAttr {
  const bytes = Buffer.alloc(SCHED_ATTR_BYTES);
  checked(syscallNumber(SYS.sched_getattr, tid, bytes, bytes.length, 0), () => `sched_getattr(${tid})`);
  return decodeSchedAttr(bytes);
}

/** int sched_setattr(pid_t pid, struct sched_attr *attr, unsigned int flags) — real-time and deadline: CAP_SYS_NICE. */
export function schedSetattr(tid: number, attr: SchedAttr): void {
  checked(syscallNumber(SYS.sched_setattr, tid, encodeSchedAttr(attr), 0), () => `sched_setattr(${tid}, policy ${attr.policy})`);
}

/** int sched_getscheduler(pid_t pid) — the policy, SCHED_RESET_ON_FORK included. */
export function schedGetscheduler(tid: number): number {
  return checked(syscallNumber(SYS.sched_getscheduler, tid), () => `sched_getscheduler(${tid})`);
}

/** int sched_getparam(pid_t pid, struct sched_param *param) — the real-time priority. */
export function schedGetparam(tid: number): number {
  const bytes = Buffer.alloc(8);
  checked(syscallNumber(SYS.sched_getparam, tid, bytes), () => `sched_getparam(${tid})`);
  return bytes.readInt32LE(0);
}

/** int sched_setscheduler(pid_t pid, int policy, const struct sched_param *param). */
export function schedSetscheduler(tid: number, policy: number, priority: number): void {
  const bytes = Buffer.alloc(8);
  bytes.writeInt32LE(priority, 0);
  checked(syscallNumber(SYS.sched_setscheduler, tid, policy, bytes), () => `sched_setscheduler(${tid}, ${policy}, ${priority})`);
}

/** Most processors a kernel can have (CONFIG_NR_CPUS of x86: 8192). */
const AFFINITY_BYTES = 1024;

/** int sched_getaffinity(pid_t pid, size_t size, unsigned long *mask) — the processors a thread may use, as bits. */
export function schedGetaffinity(tid: number): Buffer {
  const bytes = Buffer.alloc(AFFINITY_BYTES);
  const got = checked(syscallNumber(SYS.sched_getaffinity, tid, bytes.length, bytes), () => `sched_getaffinity(${tid})`);
  return bytes.subarray(0, got);
}

/** int sched_setaffinity(pid_t pid, size_t size, const unsigned long *mask). */
export function schedSetaffinity(tid: number, mask: Uint8Array): void {
  checked(syscallNumber(SYS.sched_setaffinity, tid, mask.length, mask), () => `sched_setaffinity(${tid})`);
}

/** Processors of a mask, ascending. */
export function processorsOf(mask: Uint8Array): number[] {
  const found: number[] = [];
  mask.forEach((byte, i) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) found.push(i * 8 + bit);
  });
  return found;
}

const PRIO_PROCESS = 0;
/** The raw call returns 20 - nice, so that a good result is never negative. */
const NICE_BASE = 20;

/** int getpriority(int which, id_t who) — the nice value, -20 to 19. */
export function getpriority(tid: number): number {
  return NICE_BASE - checked(syscallNumber(SYS.getpriority, PRIO_PROCESS, tid), () => `getpriority(PRIO_PROCESS, ${tid})`);
}

/** int setpriority(int which, id_t who, int prio) — below the present value: CAP_SYS_NICE or RLIMIT_NICE. */
export function setpriority(tid: number, nice: number): void {
  checked(syscallNumber(SYS.setpriority, PRIO_PROCESS, tid, nice), () => `setpriority(PRIO_PROCESS, ${tid}, ${nice})`);
}

const IOPRIO_WHO_PROCESS = 1;

/** int ioprio_get(int which, int who) — I/O class (bits 13 and up) and priority; 0: follows the nice value. */
export function ioprioGet(tid: number): number {
  return checked(syscallNumber(SYS.ioprio_get, IOPRIO_WHO_PROCESS, tid), () => `ioprio_get(IOPRIO_WHO_PROCESS, ${tid})`);
}

/** int ioprio_set(int which, int who, int ioprio). */
export function ioprioSet(tid: number, ioprio: number): void {
  checked(syscallNumber(SYS.ioprio_set, IOPRIO_WHO_PROCESS, tid, ioprio), () => `ioprio_set(IOPRIO_WHO_PROCESS, ${tid}, ${ioprio})`);
}
