/**
 * POSIX timers, timer_create(2), with their exact ids.
 *
 * Read from   /proc/PID/timers (id, clock, signal, notification); timer_gettime(2) and timer_getoverrun(2) inside
 * Made with   timer_create(2): with prctl(PR_TIMER_CREATE_RESTORE_IDS) the id is given (since 6.15); before, ids are
 *             counted up to by making and deleting timers; then timer_settime(2)
 *
 * A periodic timer whose signal is queued does not run: the kernel counts its overruns when the signal is taken. Such a
 * timer is set to a moment in the past, so that it queues its signal itself and is in the same state again. How many
 * periods it has missed no call tells: it is looked up in the kernel's memory (`linux/kernel-timers.ts`), where that is allowed.
 *
 * struct sigevent: value 8, signo 4, notify 4, thread id 4.
 */
import { SYS } from "../../linux/syscalls.js";
import type { TracedTask } from "../../target/thread.js";
import { KernelTimers } from "../../linux/kernel-timers.js";
import type { Program } from "../../target/program.js";
import { clockGettime } from "../../linux/timers.js";
import { readPosixTimers } from "../../linux/proc/read.js";
import type { ThreadPart } from "../part.js";
import type { PosixTimerEntry } from "./timers.schema.js";

const PR_TIMER_CREATE_RESTORE_IDS = 77;
const RESTORE_IDS_OFF = 0;
const RESTORE_IDS_ON = 1;
const ITIMERSPEC_BYTES = 32;
const SIGEVENT_BYTES = 64;
const SIGEV_THREAD_ID = 4;

const SIGEV_NONE = 1;
const TIMER_ABSTIME = 1;
const SI_TIMER = -2;
/** Offset of si_timerid in siginfo_t. */
const SI_TIMERID = 16;
/** Clocks as the kernel names them that belong to the thread or process that makes the timer; others are negative too. */
const OWN_THREAD_CLOCK = -2;
/** Lowest bits of a clock id that names a thread: CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED. */
const THREAD_CLOCK_BITS = 6;
const NS_PER_S = 1_000_000_000n;

/**
 * The clock to make a timer on. The kernel does not tell which thread's time a timer on its maker's own clock counts; one
 * that signals a thread is taken to count that thread's.
 */
function clockOf(timer: PosixTimerEntry, leader: number): number {
  const clock = timer.clock_id | 0;
  const tid = timer.notify_thread_id ?? leader;
  if (clock !== OWN_THREAD_CLOCK || tid === leader || tid === 0) return clock;
  return (~tid << 3) | THREAD_CLOCK_BITS;
}

/** Whether `siginfo` comes from a periodic timer that is set to queue it again. */
export function comesFromTimer(siginfo: Uint8Array, timers: readonly PosixTimerEntry[]): boolean {
  const info = Buffer.from(siginfo.buffer, siginfo.byteOffset, siginfo.byteLength);
  if (info.readInt32LE(8) !== SI_TIMER) return false;
  return timers.some((t) => t.it_id === info.readInt32LE(SI_TIMERID) && canFireAgain(t));
}

/** Ids of periodic timers of which signals wait. */
function idsWaiting(queued: readonly Uint8Array[], timers: readonly PosixTimerEntry[]): ReadonlySet<number> {
  const infos = queued.map((siginfo) => Buffer.from(siginfo.buffer, siginfo.byteOffset, siginfo.byteLength));
  const ids = new Set(infos.filter((info) => info.readInt32LE(8) === SI_TIMER).map((info) => info.readInt32LE(SI_TIMERID)));
  return new Set(timers.filter((timer) => ids.has(timer.it_id | 0) && canFireAgain(timer)).map((timer) => timer.it_id));
}

/** Whether `siginfo` comes from a timer that fires once and was armed when it was read: it fired later, and will again. */
export function firedAfterReading(siginfo: Buffer, timers: readonly PosixTimerEntry[]): boolean {
  if (siginfo.readInt32LE(8) !== SI_TIMER) return false;
  const timer = timers.find((t) => t.it_id === siginfo.readInt32LE(SI_TIMERID));
  return timer !== undefined && timer.isec + timer.insec === 0n && timer.vsec + timer.vnsec > 0n;
}

/** Periodic, on a clock that can be read from outside. */
function canFireAgain(timer: PosixTimerEntry): boolean {
  return timer.isec + timer.insec > 0n && (timer.clock_id | 0) >= 0;
}

function nowNs(clock: number): bigint {
  const { seconds, nanoseconds } = clockGettime(clock);
  return BigInt(seconds) * NS_PER_S + BigInt(nanoseconds);
}

/** Time and flags to set: what remains, or the first time it should have fired since its signal is queued. */
function setting(timer: PosixTimerEntry, isQueued: boolean): { flags: number; firstNs: bigint } {
  const remains = timer.vsec * NS_PER_S + timer.vnsec;
  if (!isQueued) return { flags: 0, firstNs: remains };
  const periods = BigInt(1 + (timer.missed ?? 0));
  const first = nowNs(timer.clock_id) + remains - periods * (timer.isec * NS_PER_S + timer.insec);
  return { flags: TIMER_ABSTIME, firstNs: first > 1n ? first : 1n };
}

function create(program: Program, timer: PosixTimerEntry, leader: number): void {
  const event = Buffer.alloc(SIGEVENT_BYTES);
  event.writeBigUInt64LE(timer.sival_ptr, 0);
  event.writeInt32LE(timer.si_signo, 8);
  // Whose thread has ended, signals nobody.
  const isDeaf = (timer.it_sigev_notify & SIGEV_THREAD_ID) !== 0 && (timer.notify_thread_id ?? 0) === 0;
  event.writeInt32LE(isDeaf ? SIGEV_NONE : timer.it_sigev_notify, 12);
  if ((timer.it_sigev_notify & SIGEV_THREAD_ID) !== 0) event.writeInt32LE(timer.notify_thread_id ?? 0, 16);
  const id = program.inOut(Buffer.alloc(8));
  id.content.writeInt32LE(timer.it_id, 0);
  program.call(SYS.timer_create, clockOf(timer, leader), program.bytes(event), id).must(`creating POSIX timer ${timer.it_id}`);
}

let kernel: KernelTimers | undefined;
let wasTried = false;

/** Gets ready, some 30 ms long, if a process has timers that may run over. */
export function prepareTimers(pids: readonly number[]): void {
  if (wasTried || !pids.some(hasTimers)) return;
  wasTried = true;
  kernel = KernelTimers.open();
}

function hasTimers(pid: number): boolean {
  try {
    return readPosixTimers(pid).some(({ notify }) => (notify & SIGEV_NONE) === 0);
  } catch {
    return false; // it has ended
  }
}

/** Of more timers nobody asks how often they have run over. */
const MOST_ASKED = 200;

/** Notes how many periods periodic timers have missed whose signal is queued. */
function noteMissed(timers: PosixTimerEntry[], traced: TracedTask): void {
  const queued = [...traced.sharedPending, ...traced.threads.flatMap((thread) => thread.pending)];
  if (queued.length === 0 || kernel === undefined || timers.length > MOST_ASKED) return;
  const waiting = idsWaiting(queued, timers);
  if (waiting.size === 0) return;
  const overruns = kernel.overruns(traced.pid, MOST_ASKED);
  for (const timer of timers.filter(({ it_id }) => waiting.has(it_id))) {
    const missed = overruns.get(timer.it_id | 0) ?? 0n;
    if (missed > 0n) timer.missed = Number(missed > MOST_OVERRUNS ? MOST_OVERRUNS : missed);
  }
}

/** DELAYTIMER_MAX, linux/limits.h */
const MOST_OVERRUNS = 0x7fff_ffffn;

export const posixTimers: ThreadPart = {
  name: "timers/posix-timers",
  rows: ["time.posix-timers"],
  stage: "last",

  dump({ isLeader, task, program, core }) {
    if (!isLeader) return undefined;
    const found = readPosixTimers(task.traced.pid).map((timer) => {
      const value = program.buffer(ITIMERSPEC_BYTES);
      program.call(SYS.timer_gettime, timer.id, value).must("reading a POSIX timer");
      return { timer, value, overrun: program.call(SYS.timer_getoverrun, timer.id) };
    });
    return () => {
      if (core.tc?.timers === undefined) return;
      core.tc.timers.posix = found.map(({ timer, value, overrun }) => ({
        it_id: timer.id,
        clock_id: timer.clockId >>> 0,
        si_signo: timer.signal,
        it_sigev_notify: timer.notify,
        sival_ptr: timer.sigval,
        overrun: Math.max(0, Number(overrun.value)),
        isec: value.bytes().readBigUInt64LE(0),
        insec: value.bytes().readBigUInt64LE(8),
        vsec: value.bytes().readBigUInt64LE(16),
        vnsec: value.bytes().readBigUInt64LE(24),
        ...((timer.notify & SIGEV_THREAD_ID) !== 0
          ? { notify_thread_id: task.traced.threads.find((t) => t.tid === timer.notifyTid)?.nsTid ?? 0 }
          : {}),
      }));
      noteMissed(core.tc.timers.posix, task.traced);
    };
  },

  restore({ isLeader, program, core, task }) {
    const timers = core.tc?.timers?.posix ?? [];
    if (!isLeader || timers.length === 0) return undefined;
    program.call(SYS.prctl, PR_TIMER_CREATE_RESTORE_IDS, RESTORE_IDS_ON, 0, 0, 0).must("asking for exact timer ids");
    for (const timer of timers) create(program, timer, task.pid);
    program.call(SYS.prctl, PR_TIMER_CREATE_RESTORE_IDS, RESTORE_IDS_OFF, 0, 0, 0).must();
    const queues = [core.tc?.signals_s, ...task.threads.map((thread) => thread.core.thread_core?.signals_p)];
    const waiting = idsWaiting(
      queues.flatMap((queue) => queue?.signals.map(({ siginfo }) => siginfo) ?? []),
      timers,
    );
    for (const timer of timers) {
      const { flags, firstNs } = setting(timer, waiting.has(timer.it_id));
      const value = Buffer.alloc(ITIMERSPEC_BYTES);
      value.writeBigUInt64LE(timer.isec, 0);
      value.writeBigUInt64LE(timer.insec, 8);
      value.writeBigUInt64LE(firstNs / NS_PER_S, 16);
      value.writeBigUInt64LE(firstNs % NS_PER_S, 24);
      program.call(SYS.timer_settime, timer.it_id, flags, program.bytes(value), 0).must(`setting POSIX timer ${timer.it_id}`);
    }
    return undefined;
  },
};
