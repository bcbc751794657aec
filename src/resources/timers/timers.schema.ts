/**
 * Image messages: itimer_entry, posix_timer_entry, task_timers_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const itimerEntry = message("itimer_entry", () => ({
  isec: required.uint64(1),
  iusec: required.uint64(2),
  vsec: required.uint64(3),
  vusec: required.uint64(4),
}));
export type ItimerEntry = Infer<typeof itimerEntry>;

export const posixTimerEntry = message("posix_timer_entry", () => ({
  it_id: required.uint32(1),
  clock_id: required.uint32(2),
  si_signo: required.uint32(3),
  it_sigev_notify: required.uint32(4),
  sival_ptr: required.uint64(5),
  overrun: required.uint32(6),
  isec: required.uint64(7),
  insec: required.uint64(8),
  vsec: required.uint64(9),
  vnsec: required.uint64(10),
  notify_thread_id: optional.int32(11),
  /** Periods that it has missed since its signal was queued. */
  missed: optional.uint32(1000, { floe: true }),
}));
export type PosixTimerEntry = Infer<typeof posixTimerEntry>;

export const taskTimersEntry = message("task_timers_entry", () => ({
  real: required.message(1, () => itimerEntry),
  virt: required.message(2, () => itimerEntry),
  prof: required.message(3, () => itimerEntry),
  posix: repeated.message(4, () => posixTimerEntry),
}));
export type TaskTimersEntry = Infer<typeof taskTimersEntry>;
