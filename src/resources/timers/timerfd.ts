/**
 * Timers that are read from: clock, remaining time, interval, unread expirations.
 *
 * Read from   fdinfo, after timerfd_gettime(2)
 * Made with   timerfd_create(2), timerfd_settime(2), ioctl(TFD_IOC_SET_TICKS)
 *
 * As with all timers the time that is left counts, also of one that was set to an absolute time: none of it passes between
 * dump and restore.
 */
import { setStatusFlags } from "../../linux/fcntl.js";
import { type TimerfdInfo, timerfdInfo } from "../../linux/proc/fdinfo-kinds.js";
import { readFdInfo } from "../../linux/proc/read.js";
import {
  TFD_CLOEXEC,
  TFD_TIMER_ABSTIME,
  type Timespec,
  clockGettime,
  timerfdCreate,
  timerfdGettime,
  timerfdSetTicks,
  timerfdSettime,
} from "../../linux/timers.js";
import type { Fd, FileKind } from "../part.js";
import type { TimerfdEntry } from "./timerfd.schema.js";

/** Tries to see a periodic timer between two expirations. */
const LOOKS = 4;
const NS_PER_S = 1_000_000_000n;
/** CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM, and the clocks that they wake the machine by. */
const CLOCK_OF_ALARM: ReadonlyMap<number, number> = new Map([
  [8, 0],
  [9, 7],
]);

/**
 * A periodic timer that has expired stands still until somebody asks: timerfd_gettime(2) adds what it has missed to the
 * unread expirations and starts it again.
 */
function look(local: Fd): TimerfdInfo {
  for (let i = 1; ; i++) {
    timerfdGettime(local);
    const seen = timerfdInfo(readFdInfo(process.pid, local));
    if (!isZero(seen.value) || isZero(seen.interval) || i === LOOKS) return seen;
  }
}

function isZero({ seconds, nanoseconds }: { seconds: bigint; nanoseconds: number }): boolean {
  return seconds === 0n && nanoseconds === 0;
}

function sum(a: Timespec, b: Timespec): Timespec {
  const nanoseconds = a.nanoseconds + b.nanoseconds;
  return { seconds: a.seconds + b.seconds + nanoseconds / NS_PER_S, nanoseconds: nanoseconds % NS_PER_S };
}

/** Starts the timer; `entry.ticks` expirations are unread. */
function start(fd: Fd, entry: TimerfdEntry): void {
  const interval = { seconds: entry.isec, nanoseconds: entry.insec };
  let value = { seconds: entry.vsec, nanoseconds: entry.vnsec };
  // Seen just when it expired: that expiration is counted already, the next is an interval away.
  if (value.seconds === 0n && value.nanoseconds === 0n && entry.ticks > 0n) value = interval;
  const isSet = value.seconds !== 0n || value.nanoseconds !== 0n;
  if (isSet && (entry.settime_flags & TFD_TIMER_ABSTIME) !== 0)
    value = sum(value, clockGettime(CLOCK_OF_ALARM.get(entry.clockid) ?? entry.clockid));
  if (isSet || entry.settime_flags !== 0) timerfdSettime(fd, entry.settime_flags, { value, interval });
  if (entry.ticks > 0n) timerfdSetTicks(fd, entry.ticks);
}

export const timerfds: FileKind<TimerfdEntry> = {
  name: "timers/timerfd",
  rows: ["time.timerfd"],
  type: "TIMERFD",
  field: "tfd",
  isPathless: true,
  matches: ({ link }) => link === "anon_inode:[timerfd]",
  dump(file) {
    const { clockId, ticks, setTimeFlags, value, interval } = look(file.local);
    return {
      id: file.id,
      flags: file.info.flags,
      fown: file.fown,
      clockid: clockId,
      ticks,
      settime_flags: setTimeFlags,
      vsec: value.seconds,
      vnsec: BigInt(value.nanoseconds),
      isec: interval.seconds,
      insec: BigInt(interval.nanoseconds),
    };
  },
  open(entry) {
    const fd = timerfdCreate(entry.clockid, TFD_CLOEXEC);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
  // As late as files can: a timer that runs while the restore does loses time.
  link: (entry, { fd }) => start(fd, entry),
};
