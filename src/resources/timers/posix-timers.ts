/**
 * POSIX timers, timer_create(2), with their exact ids.
 *
 * Read from   /proc/PID/timers (id, clock, signal, notification); timer_gettime(2) and timer_getoverrun(2) inside
 * Made with   timer_create(2): with prctl(PR_TIMER_CREATE_RESTORE_IDS) the id is given (since 6.15); before, ids are
 *             counted up to by making and deleting timers; then timer_settime(2)
 *
 * struct sigevent: value 8, signo 4, notify 4, thread id 4.
 */
import { SYS } from "../../linux/syscalls.js";
import type { Program } from "../../target/program.js";
import { readPosixTimers } from "../../linux/proc/read.js";
import type { ThreadPart } from "../part.js";
import type { PosixTimerEntry } from "./timers.schema.js";

const PR_TIMER_CREATE_RESTORE_IDS = 77;
const RESTORE_IDS_OFF = 0;
const RESTORE_IDS_ON = 1;
const ITIMERSPEC_BYTES = 32;
const SIGEVENT_BYTES = 64;
const SIGEV_THREAD_ID = 4;

function create(program: Program, timer: PosixTimerEntry): void {
  const event = Buffer.alloc(SIGEVENT_BYTES);
  event.writeBigUInt64LE(timer.sival_ptr, 0);
  event.writeInt32LE(timer.si_signo, 8);
  event.writeInt32LE(timer.it_sigev_notify, 12);
  if ((timer.it_sigev_notify & SIGEV_THREAD_ID) !== 0) event.writeInt32LE(timer.notify_thread_id ?? 0, 16);
  const id = program.inOut(Buffer.alloc(8));
  id.content.writeInt32LE(timer.it_id, 0);
  program.call(SYS.timer_create, timer.clock_id, program.bytes(event), id).must(`creating POSIX timer ${timer.it_id}`);
}

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
        clock_id: timer.clockId,
        si_signo: timer.signal,
        it_sigev_notify: timer.notify,
        sival_ptr: timer.sigval,
        overrun: Math.max(0, Number(overrun.value)),
        isec: value.bytes().readBigUInt64LE(0),
        insec: value.bytes().readBigUInt64LE(8),
        vsec: value.bytes().readBigUInt64LE(16),
        vnsec: value.bytes().readBigUInt64LE(24),
        ...((timer.notify & SIGEV_THREAD_ID) !== 0 ? { notify_thread_id: timer.notifyTid } : {}),
      }));
    };
  },

  restore({ isLeader, program, core }) {
    const timers = core.tc?.timers?.posix ?? [];
    if (!isLeader || timers.length === 0) return undefined;
    program.call(SYS.prctl, PR_TIMER_CREATE_RESTORE_IDS, RESTORE_IDS_ON, 0, 0, 0).must("asking for exact timer ids");
    for (const timer of timers) create(program, timer);
    program.call(SYS.prctl, PR_TIMER_CREATE_RESTORE_IDS, RESTORE_IDS_OFF, 0, 0, 0).must();
    for (const timer of timers) {
      const value = Buffer.alloc(ITIMERSPEC_BYTES);
      value.writeBigUInt64LE(timer.isec, 0);
      value.writeBigUInt64LE(timer.insec, 8);
      value.writeBigUInt64LE(timer.vsec, 16);
      value.writeBigUInt64LE(timer.vnsec, 24);
      program.call(SYS.timer_settime, timer.it_id, 0, program.bytes(value), 0).must(`setting POSIX timer ${timer.it_id}`);
    }
    return undefined;
  },
};
