/**
 * Requests of kernel asynchronous I/O that wait for something to happen (IOCB_CMD_POLL): they may never end, so nobody can wait
 * for them as for those to a device.
 *
 * Read from   the kernel's memory (`linux/kernel-aio.ts`), where there is type information and the right to load BPF programs
 * Refused     all of them; where they cannot be seen, they are lost
 */
import { readFileSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { KernelAio } from "../../linux/kernel-aio.js";
import type { DumpSession, DumpTask } from "../part.js";

let look: KernelAio | undefined;
let wasTried = false;

function lookAt(pid: number): ReadonlyMap<bigint, number> | undefined {
  if (!wasTried) look = KernelAio.open();
  wasTried = true;
  return look?.waiting(pid);
}

/** Getting ready takes some 20 ms, so it is done before the freeze where a process has a context. */
export function prepareContexts(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      if (!readFileSync(`/proc/${pid}/maps`, "latin1").includes("/[aio]")) continue;
      lookAt(pid);
      return;
    } catch {
      // It has ended; the freeze says so.
    }
  }
}

/** Refuses contexts of frozen processes with such requests. */
export function refuseWaiting(tasks: readonly DumpTask[], session: DumpSession): void {
  for (const { traced, comm } of tasks) {
    for (const [context, count] of lookAt(traced.pid) ?? []) {
      if (count === 0) continue;
      session.refuse(
        new Refusal({
          code: "AIO_WAITING",
          process: { pid: traced.pid, comm },
          resource: `the asynchronous I/O context ${context.toString(16)}`,
          because: `${count} of its requests wait for something to happen, as polls do, and may do so for ever`,
          remedy: ["Dump again when they have ended", "Let the program cancel them first (io_cancel), or use epoll"],
        }),
      );
    }
  }
}
