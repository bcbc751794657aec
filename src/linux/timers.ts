/**
 * setitimer(2), timer_create(2), timerfd_create(2): structs and calls.
 *
 * Constants: uapi/linux/time.h, uapi/linux/timerfd.h, uapi/asm-generic/siginfo.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const CLOCK_REALTIME = 0;
export const CLOCK_MONOTONIC = 1;
export const CLOCK_PROCESS_CPUTIME_ID = 2;
export const CLOCK_THREAD_CPUTIME_ID = 3;
export const CLOCK_BOOTTIME = 7;
export const CLOCK_REALTIME_ALARM = 8;
export const CLOCK_BOOTTIME_ALARM = 9;

export const ITIMER_REAL = 0;
export const ITIMER_VIRTUAL = 1;
export const ITIMER_PROF = 2;

export const SIGEV_SIGNAL = 0;
export const SIGEV_NONE = 1;
export const SIGEV_THREAD = 2;
export const SIGEV_THREAD_ID = 4;

export const TFD_TIMER_ABSTIME = 1;
export const TFD_TIMER_CANCEL_ON_SET = 2;
export const TFD_NONBLOCK = 0o4000;
export const TFD_CLOEXEC = 0o2000000;
/** _IOW('T', 0, __u64): sets the number of unread expirations, since 3.17 with CONFIG_CHECKPOINT_RESTORE. */
const TFD_IOC_SET_TICKS = 0x4008_5400;

/** struct timespec. */
export interface Timespec {
  readonly seconds: bigint;
  readonly nanoseconds: bigint;
}

/** struct itimerval: microseconds. */
export interface Itimerval {
  readonly intervalSeconds: bigint;
  readonly intervalMicroseconds: bigint;
  readonly valueSeconds: bigint;
  readonly valueMicroseconds: bigint;
}

/** struct itimerspec: nanoseconds. */
export interface Itimerspec {
  readonly interval: Timespec;
  readonly value: Timespec;
}

export const TIMESPEC_BYTES = 16;
export const ITIMERVAL_BYTES = 32;
export const ITIMERSPEC_BYTES = 32;

function encodeFour(a: bigint, b: bigint, c: bigint, d: bigint): Buffer {
  const bytes = Buffer.alloc(32);
  [a, b, c, d].forEach((value, i) => bytes.writeBigInt64LE(BigInt.asIntN(64, value), i * 8));
  return bytes;
}

export function encodeTimespec(time: Timespec): Buffer {
  const bytes = Buffer.alloc(TIMESPEC_BYTES);
  bytes.writeBigInt64LE(time.seconds, 0);
  bytes.writeBigInt64LE(time.nanoseconds, 8);
  return bytes;
}

export function decodeTimespec(bytes: Buffer, at = 0): Timespec {
  return { seconds: bytes.readBigInt64LE(at), nanoseconds: bytes.readBigInt64LE(at + 8) };
}

export function encodeItimerval(timer: Itimerval): Buffer {
  return encodeFour(timer.intervalSeconds, timer.intervalMicroseconds, timer.valueSeconds, timer.valueMicroseconds);
}

export function decodeItimerval(bytes: Buffer): Itimerval {
  return {
    intervalSeconds: bytes.readBigInt64LE(0),
    intervalMicroseconds: bytes.readBigInt64LE(8),
    valueSeconds: bytes.readBigInt64LE(16),
    valueMicroseconds: bytes.readBigInt64LE(24),
  };
}

export function encodeItimerspec({ interval, value }: Itimerspec): Buffer {
  return encodeFour(interval.seconds, interval.nanoseconds, value.seconds, value.nanoseconds);
}

export function decodeItimerspec(bytes: Buffer): Itimerspec {
  return { interval: decodeTimespec(bytes, 0), value: decodeTimespec(bytes, 16) };
}

/** struct sigevent of timer_create(2) and mq_notify(3). */
export interface SigEvent {
  readonly value: bigint;
  readonly signal: number;
  /** SIGEV_…. */
  readonly notify: number;
  /** Of SIGEV_THREAD_ID. */
  readonly tid: number;
}

export const SIGEVENT_BYTES = 64;

export function encodeSigEvent(event: SigEvent): Buffer {
  const bytes = Buffer.alloc(SIGEVENT_BYTES);
  bytes.writeBigUInt64LE(event.value, 0);
  bytes.writeInt32LE(event.signal, 8);
  bytes.writeInt32LE(event.notify, 12);
  bytes.writeInt32LE(event.tid, 16);
  return bytes;
}

/** int clock_gettime(clockid_t clockid, struct timespec *tp). */
export function clockGettime(clockId: number): Timespec {
  const bytes = Buffer.alloc(TIMESPEC_BYTES);
  checked(syscallNumber(SYS.clock_gettime, clockId, bytes), () => `clock_gettime(${clockId})`);
  return decodeTimespec(bytes);
}

/** int timerfd_create(int clockid, int flags). */
export function timerfdCreate(clockId: number, flags: number): number {
  return checked(syscallNumber(SYS.timerfd_create, clockId, flags), () => `timerfd_create(${clockId}, ${flags})`);
}

/** int timerfd_settime(int fd, int flags, const struct itimerspec *new_value, …). */
export function timerfdSettime(fd: number, flags: number, timer: Itimerspec): void {
  checked(syscallNumber(SYS.timerfd_settime, fd, flags, encodeItimerspec(timer), 0), () => `timerfd_settime(${fd}, ${flags})`);
}

/** int timerfd_gettime(int fd, struct itimerspec *curr_value). */
export function timerfdGettime(fd: number): Itimerspec {
  const bytes = Buffer.alloc(ITIMERSPEC_BYTES);
  checked(syscallNumber(SYS.timerfd_gettime, fd, bytes), () => `timerfd_gettime(${fd})`);
  return decodeItimerspec(bytes);
}

/** ioctl(fd, TFD_IOC_SET_TICKS, &ticks) — sets the number of expirations that a read will return; 0 is EINVAL. */
export function timerfdSetTicks(fd: number, ticks: bigint): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(ticks, 0);
  checked(syscallNumber(SYS.ioctl, fd, TFD_IOC_SET_TICKS, bytes), () => `ioctl(${fd}, TFD_IOC_SET_TICKS, ${ticks})`);
}
