/**
 * makedev(3): device numbers in the three forms the kernel shows them.
 *
 * stat(2) and mknod(2) use the wide form; `sdev:` in fdinfo the kernel's inner one; tty_nr in /proc/PID/stat and the
 * TIOC… calls a form of 32 bits.
 */

/** A device. */
export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** From st_dev or st_rdev (sysmacros.h: gnu_dev_major, gnu_dev_minor). */
export function fromStatDevice(device: bigint): DeviceNumber {
  return {
    major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xffff_f000n)),
    minor: Number((device & 0xffn) | ((device >> 12n) & 0xffff_ff00n)),
  };
}

/** For mknod(2) and to compare with st_dev. */
export function toStatDevice({ major, minor }: DeviceNumber): bigint {
  const high = BigInt(major);
  const low = BigInt(minor);
  return (low & 0xffn) | ((high & 0xfffn) << 8n) | ((low & 0xffff_ff00n) << 12n) | ((high & 0xffff_f000n) << 32n);
}

const MINOR_BITS = 20;

/** From the kernel's own dev_t, 12 bits of major and 20 of minor (linux/kdev_t.h), as in `sdev:`. */
export function fromKernelDevice(device: number): DeviceNumber {
  return { major: device >>> MINOR_BITS, minor: device & ((1 << MINOR_BITS) - 1) };
}

/** To the kernel's own dev_t. */
export function toKernelDevice({ major, minor }: DeviceNumber): number {
  return ((major << MINOR_BITS) | minor) >>> 0;
}

/** From the 32-bit form (linux/kdev_t.h: new_encode_dev), as in tty_nr. */
export function fromTtyNumber(device: number): DeviceNumber {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}
