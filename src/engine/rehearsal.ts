/**
 * Rehearsal: the whole of a dump is done once on a process of our own before the real one is frozen.
 *
 * JavaScript that runs for the first time is ten times slower than afterwards (it is parsed, compiled, and learns the
 * shapes of its values), and the tree must not stand still for that. Whatever happens here is of no consequence.
 */
import { syscallNumber } from "../linux/ffi/native.unsafe.js";
import { SYS } from "../linux/syscalls.js";
import { regionBytes } from "../target/region.js";
import { startIdle, waitDeath } from "../target/seed.js";

/** Anywhere: the process has no other mappings in the lower half of its address space. */
const PLACE = 0x10000000n;
const SIGKILL = 9;

/** Calls `dump` with the pid of an idle process and ends that process. Errors of the rehearsal are none. */
export function rehearse(dump: (pid: number) => void): void {
  let pid: number;
  try {
    pid = startIdle({ region: PLACE, regionBytes: regionBytes(1) });
  } catch {
    return;
  }
  try {
    dump(pid);
  } catch {
    // The real dump will say what is wrong.
  } finally {
    syscallNumber(SYS.kill, pid, SIGKILL);
    waitDeath(pid);
  }
}
