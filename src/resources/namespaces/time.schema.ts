/**
 * Image messages: timespec, timens_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const timespec = message("timespec", {
  tv_sec: required.uint64(1),
  tv_nsec: required.uint64(2),
});
export type Timespec = Infer<typeof timespec>;

export const timensEntry = message("timens_entry", {
  monotonic: required.message(1, () => timespec),
  boottime: required.message(2, () => timespec),
});
export type TimensEntry = Infer<typeof timensEntry>;
