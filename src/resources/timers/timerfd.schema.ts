/**
 * Image messages: timerfd_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const timerfdEntry = message("timerfd_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { hex: true }),
  fown: required.message(3, () => fownEntry),
  clockid: required.uint32(4),
  ticks: required.uint64(5),
  settime_flags: required.uint32(6, { hex: true }),
  vsec: required.uint64(7),
  vnsec: required.uint64(8),
  isec: required.uint64(9),
  insec: required.uint64(10),
}));
export type TimerfdEntry = Infer<typeof timerfdEntry>;
