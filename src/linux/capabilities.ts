/**
 * capabilities(7): capget(2), capset(2). Source: uapi/linux/capability.h.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

export const CAP_CHOWN = 0;
export const CAP_DAC_OVERRIDE = 1;
export const CAP_DAC_READ_SEARCH = 2;
export const CAP_KILL = 5;
export const CAP_SETGID = 6;
export const CAP_SETUID = 7;
export const CAP_SETPCAP = 8;
export const CAP_NET_ADMIN = 12;
export const CAP_SYS_CHROOT = 18;
export const CAP_SYS_PTRACE = 19;
export const CAP_SYS_ADMIN = 21;
export const CAP_SYS_NICE = 23;
export const CAP_SYS_RESOURCE = 24;
export const CAP_CHECKPOINT_RESTORE = 40;

export const LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;

/** Sets of a thread, bit n is capability n. */
export interface CapabilitySets {
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly inheritable: bigint;
}

export const CAP_DATA_BYTES = 24;

/** struct __user_cap_header_struct; `tid` 0 is the calling thread. */
export function encodeCapHeader(tid: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(LINUX_CAPABILITY_VERSION_3, 0);
  bytes.writeInt32LE(tid, 4);
  return bytes;
}

/** Two struct __user_cap_data_struct: low halves, then high halves. */
export function encodeCapData(sets: CapabilitySets): Buffer {
  const bytes = Buffer.alloc(CAP_DATA_BYTES);
  [sets.effective, sets.permitted, sets.inheritable].forEach((set, i) => {
    bytes.writeUInt32LE(Number(set & 0xffff_ffffn), i * 4);
    bytes.writeUInt32LE(Number((set >> 32n) & 0xffff_ffffn), 12 + i * 4);
  });
  return bytes;
}

export function decodeCapData(bytes: Buffer): CapabilitySets {
  const set = (i: number) => BigInt(bytes.readUInt32LE(i * 4)) | (BigInt(bytes.readUInt32LE(12 + i * 4)) << 32n);
  return { effective: set(0), permitted: set(1), inheritable: set(2) };
}

/** int capget(cap_user_header_t hdrp, cap_user_data_t datap). */
export function capget(tid: number): CapabilitySets {
  const data = Buffer.alloc(CAP_DATA_BYTES);
  checked(syscallNumber(SYS.capget, encodeCapHeader(tid), data), () => `capget(${tid})`);
  return decodeCapData(data);
}

/** int capset(cap_user_header_t hdrp, const cap_user_data_t datap) — of the calling thread. */
export function capset(sets: CapabilitySets): void {
  checked(syscallNumber(SYS.capset, encodeCapHeader(0), encodeCapData(sets)), () => "capset(0)");
}

/** Whether the calling thread has a capability in its effective set. */
export function hasCapability(capability: number): boolean {
  return (capget(0).effective & (1n << BigInt(capability))) !== 0n;
}
