/**
 * Rehearsal: the whole of a dump is done once on a process of our own before the real one is frozen.
 *
 * JavaScript that runs for the first time is ten times slower than afterwards (it is parsed, compiled, and learns the
 * shapes of its values), and the tree must not stand still for that. Whatever happens here is of no consequence.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { setDescriptorFlags } from "../linux/fcntl.js";
import { O_CLOEXEC } from "../linux/files.js";
import { posixSpawn, syscallNumber } from "../linux/ffi/native.unsafe.js";
import { pipe2 } from "../linux/pipes.js";
import { getChildSubreaper, setChildSubreaper } from "../linux/prctl.js";
import { SYS } from "../linux/syscalls.js";
import { regionBytes } from "../target/region.js";
import { startIdle, waitDeath } from "../target/seed.js";

/** Anywhere: the process has no other mappings in the lower half of its address space. */
const PLACE = 0x10000000n;
const SIGKILL = 9;
/** An ordinary program with libraries that waits, for the words of a script; it is on every system worth the name. */
const PROGRAM = "/bin/sh";

/**
 * How often: code is compiled in steps, by Bun's engine sooner than by Node's. For a tiny process the least frozen time
 * seen was 16 ms on Node after one rehearsal and 8 ms after three, 7 ms on Bun after one; each takes some 15 ms during
 * which the tree runs.
 */
const REHEARSALS = process.versions["bun"] === undefined ? 3 : 1;

/**
 * Calls `dump` with the pid of an idle process and ends that process. Errors of the rehearsal are none. `withCopies`: once more,
 * and from the second time on with copy-on-write copies.
 */
export function rehearse(dump: (pid: number, copies: boolean) => void, withCopies = false): void {
  // The script is a pipe that only we can write: should we be killed, the process comes to the end of it and ends too.
  const { readEnd, writeEnd } = pipe2(O_CLOEXEC);
  try {
    const pid = withFiles(readEnd, () => start(readEnd));
    if (pid > 0) rehearseOn(pid, dump, withCopies);
  } finally {
    closeSync(readEnd);
    closeSync(writeEnd);
  }
}

function rehearseOn(pid: number, dump: (pid: number, copies: boolean) => void, withCopies: boolean): void {
  const wasSubreaper = withCopies && getChildSubreaper();
  try {
    // Copies become ours: whoever adopts orphans here has nothing to do with them.
    if (withCopies) setChildSubreaper(true);
    for (let i = 0; i < REHEARSALS + (withCopies ? 1 : 0); i++) dump(pid, withCopies && i > 0);
  } catch {
    // The real dump will say what is wrong.
  } finally {
    if (withCopies) setChildSubreaper(wasSubreaper);
    syscallNumber(SYS.kill, pid, SIGKILL);
    waitDeath(pid);
  }
}

function start(script: number): number {
  const pid = posixSpawn(PROGRAM, [PROGRAM, `/proc/self/fd/${script}`], []);
  if (pid > 0) return pid;
  try {
    return startIdle({ region: PLACE, regionBytes: regionBytes(1) });
  } catch {
    return -1;
  }
}

/** Lets the process inherit its script and open files of the usual kinds. */
function withFiles(script: number, action: () => number): number {
  const fds: number[] = [];
  try {
    const { readEnd, writeEnd } = pipe2(constants.O_NONBLOCK);
    fds.push(readEnd, writeEnd);
    writeSync(writeEnd, "data");
    for (const path of ["/dev/null", "/", "/proc/self/exe"]) fds.push(openSync(path, "r"));
    for (const fd of [script, ...fds]) setDescriptorFlags(fd, 0);
    return action();
  } catch {
    return -1;
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
