/**
 * seccomp(2): numbers and struct sock_fprog. Source: uapi/linux/seccomp.h, uapi/linux/filter.h.
 */
export const SECCOMP_MODE_DISABLED = 0;
export const SECCOMP_MODE_STRICT = 1;
export const SECCOMP_MODE_FILTER = 2;

export const SECCOMP_SET_MODE_STRICT = 0;
export const SECCOMP_SET_MODE_FILTER = 1;

export const SECCOMP_FILTER_FLAG_TSYNC = 1;
export const SECCOMP_FILTER_FLAG_LOG = 2;
export const SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4;
export const SECCOMP_FILTER_FLAG_NEW_LISTENER = 8;

/** sizeof(struct sock_filter): one instruction. */
export const SOCK_FILTER_BYTES = 8;
export const SOCK_FPROG_BYTES = 16;

/** struct sock_fprog: number of instructions and their address in the process that makes the call. */
export function encodeSockFprog(count: number, address: bigint): Buffer {
  const bytes = Buffer.alloc(SOCK_FPROG_BYTES);
  bytes.writeUInt16LE(count, 0);
  bytes.writeBigUInt64LE(address, 8);
  return bytes;
}
