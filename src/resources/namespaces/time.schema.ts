/**
 * Image messages: timespec, timens_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const timespec = message("timespec", () => ({
  tv_sec: required.uint64(1),
  tv_nsec: required.uint64(2),
}));
export type Timespec = Infer<typeof timespec>;

export const timensEntry = message("timens_entry", () => ({
  monotonic: required.message(1, () => timespec),
  boottime: required.message(2, () => timespec),
  /** Of the machine's boot that the clocks belong to, as /proc/sys/kernel/random/boot_id. */
  boot_id: optional.string(1000, { floe: true }),
  /** What the tree's time namespace adds to the machine's clocks, in nanoseconds. */
  monotonic_offset: optional.sint64(1001, { floe: true }),
  boottime_offset: optional.sint64(1002, { floe: true }),
}));
export type TimensEntry = Infer<typeof timensEntry>;
