/**
 * Putting the stub into a frozen process and taking it out again, without a moment at which our death would hurt it.
 *
 * The first mapping and the last unmapping are made in the *cave*: unused bytes at the end of the vdso (or of another
 * executable page), where one system call, the original signal mask and the original registers follow one another. Each
 * step below leaves the thread in a state from which it goes on by itself when the tracer dies; hence their order.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { Refusal } from "../errors.js";
import { kernelError } from "../linux/errno.js";
import {
  ptraceGetRegs,
  ptraceInterrupt,
  ptraceSetRegs,
  scatterToProcess,
  ptraceSetSigmask,
  ptraceSetUserDispatch,
  ptraceSyscall,
  waitThread,
} from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { arch } from "./arch.js";
import type { AddressRange, CodeRanges } from "./code-ranges.js";
import { LAST_CHOICE } from "./freeze.js";
import { Program } from "./program.js";
import { CODE_BYTES, type Slot, freeRegionPlace, regionBytes, regionHeader, slotAt } from "./region.js";
import { resumeStrayStop, run, writeTarget } from "./run.js";
import type { TracedTask, TracedThread } from "./thread.js";

const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const EACCES = 13n;
const EFAULT = 14;
const ALL_SIGNALS = 0xffffffffffffffffn;

/** Work in a process, with a break wherever it is under way by itself: others can be worked in meanwhile. */
type Steps<T = void> = Generator<void, T>;

/** Does all of it, and nothing else meanwhile. */
function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** So many at once: each has a descriptor open. */
const AT_ONCE = 64;

/**
 * Works in all of the processes at once, but in those that share their memory, and so the cave, in one after another. One that fails holds
 * up none that are under way. Throws the first failure.
 */
function together(tasks: readonly TracedTask[], stepsIn: (task: TracedTask) => Steps, isToGoOn: boolean): void {
  const alone = tasks.filter((task) => task.hasOwnMemory);
  const groups = Array.from({ length: Math.ceil(alone.length / AT_ONCE) }, (_, i) => alone.slice(i * AT_ONCE, (i + 1) * AT_ONCE));
  groups.push(...tasks.filter((task) => !task.hasOwnMemory).map((task) => [task]));
  const failures: unknown[] = [];
  for (const group of groups) {
    if (failures.length > 0 && !isToGoOn) break;
    for (let rest = group.map(stepsIn); rest.length > 0; ) rest = rest.filter((steps) => isUnderWay(steps, failures));
  }
  if (failures.length > 0) throw failures[0];
}

/** Goes to the next break; whether there is one. */
function isUnderWay(steps: Steps, failures: unknown[]): boolean {
  try {
    return steps.next().done !== true;
  } catch (error) {
    failures.push(error);
    return false;
  }
}

/** Runs `step` with /proc/PID/mem open, through which read-only memory can be written as well. */
function* withMemory<T>(pid: number, step: (fd: number) => Steps<T>): Steps<T> {
  const fd = openSync(`/proc/${pid}/mem`, "r+");
  try {
    return yield* step(fd);
  } finally {
    closeSync(fd);
  }
}

/** Chooses the first range whose last bytes are unused: zero, or the cave of a dumper that was killed. */
function findCave(task: TracedTask, memory: number, ranges: readonly AddressRange[]): bigint {
  const size = arch.caveBytes;
  const bytes = Buffer.alloc(size);
  for (const range of ranges) {
    const at = range.end - BigInt(size);
    try {
      readSync(memory, bytes, 0, size, Number(at));
    } catch {
      continue; // not readable (a hole behind the end of a file): not usable either
    }
    if (bytes.equals(unused) || arch.isCave(bytes)) return at;
  }
  throw new Refusal({
    code: "NO_CODE_CAVE",
    process: { pid: task.pid, comm: task.comm },
    resource: "its memory",
    because: `no executable mapping ends in ${size} unused bytes, so it cannot be entered safely`,
    remedy: ["Start the program with a vdso (the kernel's default)"],
  });
}

const unused = Buffer.alloc(arch.caveBytes);

/** Makes one system call in the leader through the cave; afterwards the leader stands behind that call, in the cave. */
function* callThroughCave(task: TracedTask, memory: number, call: { nr: number; args: readonly bigint[] }): Steps<bigint> {
  const { leader, cave } = task;
  if (cave === undefined) throw new Error("internal error: no cave");
  const after = arch.resumeRegs(leader.regs, true);
  writeSync(memory, arch.caveImage(after, leader.sigmask), 0, arch.caveBytes, Number(cave));
  // Registers first: should we die before the mask is set, the cave sets the original mask anyway.
  ptraceSetRegs(leader.tid, arch.callRegs(leader.regs, { rip: cave, ...call }));
  ptraceSetSigmask(leader.tid, ALL_SIGNALS);
  for (let stop = 0; stop < 2; stop++) {
    ptraceSyscall(leader.tid);
    yield;
    for (;;) {
      const status = waitThread(leader.tid);
      if (status.kind === "syscall-stop") break;
      strayInCave(leader, status);
    }
  }
  const regs = Buffer.alloc(arch.regsBytes);
  ptraceGetRegs(leader.tid, regs);
  return arch.syscallResult(regs);
}

function strayInCave(leader: TracedThread, status: ReturnType<typeof waitThread>): void {
  if (status.kind === "event-stop") ptraceSyscall(leader.tid);
  else if (status.kind === "signal-stop" && status.signal === 19) ptraceSyscall(leader.tid, 19);
  else resumeStrayStop(leader, status);
}

/** Whether a thread is still under way in the stub of a dumper that was killed; it gets out by itself. */
export function isInsideStub(task: TracedTask, ranges: CodeRanges): boolean {
  const inside = [...ranges.leftBehind];
  const cave = ranges.code[0];
  if (cave !== undefined) inside.push({ start: cave.end - BigInt(arch.caveBytes), end: cave.end });
  return task.threads.some((thread) => {
    const at = arch.instructionPointer(thread.regs);
    return inside.some((range) => at >= range.start && at < range.end);
  });
}

/** Maps the stub region; in two pieces in a process that may not have memory both writable and executable. */
function* mapRegion(task: TracedTask, memory: number, { place, length }: { place: bigint; length: number }): Steps<bigint> {
  const map = (prot: number) => {
    const args = [place, BigInt(length), BigInt(prot), BigInt(MAP_PRIVATE | MAP_ANONYMOUS), -1n, 0n];
    return callThroughCave(task, memory, { nr: SYS.mmap, args });
  };
  let address = yield* map(PROT_READ | PROT_WRITE | PROT_EXEC);
  let failed = address;
  if (address === -EACCES) {
    address = yield* map(PROT_READ | PROT_EXEC);
    const data = { at: address + BigInt(CODE_BYTES), length: BigInt(length - CODE_BYTES) };
    failed = isError(address)
      ? address
      : yield* callThroughCave(task, memory, { nr: SYS.mprotect, args: [data.at, data.length, BigInt(PROT_READ | PROT_WRITE)] });
  }
  if (!isError(failed)) return address;
  if (!isError(address)) yield* callThroughCave(task, memory, { nr: SYS.munmap, args: [address, BigInt(length)] });
  leaveCave(task, memory);
  throw kernelError(`mmap(0x${place.toString(16)}, ${length}, PROT_READ|PROT_WRITE|PROT_EXEC) in process ${task.pid}`, failed);
}

function isError(result: bigint): boolean {
  return result < 0n && result >= -4095n;
}

/**
 * Maps the stub region into `task` and parks every thread of it at the stub; removes what a killed dumper left behind.
 *
 * All threads must be stopped, with `regs` and `sigmask` read, and none inside an older stub ({@link isInsideStub}).
 */
export function attachStub(task: TracedTask, ranges: CodeRanges): void {
  finish(attaching(task, ranges));
}

/** The same with many at once. On a failure some have it, and the others are as they were. */
export function attachStubs(all: readonly { readonly traced: TracedTask; readonly code: CodeRanges }[]): void {
  const ranges = new Map(all.map(({ traced, code }) => [traced, code]));
  const steps = (task: TracedTask) => attaching(task, ranges.get(task) ?? { code: [], leftBehind: [] });
  together([...ranges.keys()], steps, false);
}

function* attaching(task: TracedTask, ranges: CodeRanges): Steps {
  yield* withMemory(task.pid, (memory) => placeStub(task, memory, ranges));
  if (ranges.leftBehind.length === 0) return;
  const program = new Program();
  for (const { start, end } of ranges.leftBehind) program.call(SYS.munmap, start, end - start).must();
  run(task.leader, program);
}

function* placeStub(task: TracedTask, memory: number, ranges: CodeRanges): Steps {
  task.cave = findCave(task, memory, ranges.code);
  const length = regionBytes(task.threads.length);
  const place = freeRegionPlace(
    ranges.leftBehind.map((range) => range.start),
    arch.isCompat(task.leader.regs),
  );
  switchDispatch(task.leader, false);
  const address = yield* mapRegion(task, memory, { place, length });
  task.region = { address, length };
  const header = regionHeader(arch.stubCode);
  writeSync(memory, header, 0, header.length, Number(address));
  if (task.isTrapUnused) yield* ignoreTrap(task, memory, slotAt(address, 0).table);
  parkThreads(task.threads, address);
  clearCave(task, memory);
}

/** struct kernel_sigaction: handler, flags, restorer, mask. */
const ACTION_BYTES = 32;
const SIGSET_BYTES = 8n;
const IGNORED = Buffer.alloc(ACTION_BYTES);
IGNORED.writeBigUInt64LE(1n, 0);

/**
 * Has the process ignore the signal that ends programs, which would end it otherwise. Should we die it goes on to: threads may still be on
 * their way to the end of a program. `at`: memory for it.
 */
function* ignoreTrap(task: TracedTask, memory: number, at: bigint): Steps {
  const old = at + BigInt(ACTION_BYTES);
  // Who shares its memory may share its actions, and is not to be without what we need when the other is let go.
  if (task.hasOwnMemory) {
    writeSync(memory, IGNORED, 0, ACTION_BYTES, Number(at));
    const args = [BigInt(task.trapSignal), at, old, SIGSET_BYTES];
    if ((yield* callThroughCave(task, memory, { nr: SYS.rt_sigaction, args })) === 0n) {
      task.actionOfTrap = Buffer.alloc(ACTION_BYTES);
      readSync(memory, task.actionOfTrap, 0, ACTION_BYTES, Number(old));
      return;
    }
  }
  task.isTrapUnused = false;
  task.trapSignal = LAST_CHOICE;
}

/**
 * Gives the signal its action back; the leader alone is still ours, and no thread is on its way to the end of a program. To have it ignored
 * once more takes away any that is queued.
 */
function* restoreTrap(task: TracedTask, memory: number, at: bigint): Steps {
  if (task.actionOfTrap === undefined) return;
  for (const action of [IGNORED, task.actionOfTrap]) {
    writeSync(memory, action, 0, ACTION_BYTES, Number(at));
    yield* callThroughCave(task, memory, { nr: SYS.rt_sigaction, args: [BigInt(task.trapSignal), at, 0n, SIGSET_BYTES] });
  }
}

/** Frames of so many threads are written by one call. */
const GROUP = 128;

/** Gives threads of one process their slots, from slot `first` on, and sets them to the stub. */
export function parkThreads(threads: readonly TracedThread[], region: bigint, first = 0): void {
  const pid = threads[0]?.task.pid ?? 0;
  for (let from = 0; from < threads.length; from += GROUP) {
    const group = threads.slice(from, from + GROUP).map((thread, i) => ({ thread, slot: slotAt(region, first + from + i) }));
    const frames = Buffer.concat(group.map(({ thread }) => frameOf(thread)));
    const size = frames.length / group.length;
    const wrote = scatterToProcess(
      pid,
      frames,
      group.flatMap(({ slot }) => [Number(slot.frame), size]),
    );
    if (wrote !== frames.length) throw kernelError(`process_vm_writev(${pid}, ${group.length} frames)`, wrote < 0 ? wrote : -EFAULT);
    for (const { thread, slot } of group) setToStub(thread, slot);
  }
}

/** Gives a thread any slot and sets it to the stub. */
export function parkAt(thread: TracedThread, slot: Slot): void {
  writeTarget(thread, slot.frame, frameOf(thread));
  setToStub(thread, slot);
}

/** The frame of a thread, and behind it a table that has no calls. */
function frameOf(thread: TracedThread): Buffer {
  const { task } = thread;
  const frame = arch.stubFrame({
    tgid: task.nsPid,
    tid: thread.nsTid,
    signal: task.trapSignal,
    mask: thread.sigmask,
    regs: arch.resumeRegs(thread.regs, true),
    dispatch: thread.userDispatch,
  });
  return Buffer.concat([frame, NO_CALLS]);
}

const NO_CALLS = Buffer.alloc(64);
NO_CALLS.writeInt32LE(-1, 0);

/**
 * Syscall user dispatch would hit the calls of stub and cave. From when a thread is set to the stub until it has its own registers again the
 * stub's tail switches it on, should we die. What is left are the moments between this and the one call beside it, and for the leader
 * those in which it is in the cave, which has no room for that: a tenth of a millisecond at the beginning, and at the end.
 */
function switchDispatch(thread: TracedThread, isOn: boolean): void {
  if (thread.userDispatch !== undefined) ptraceSetUserDispatch(thread.tid, isOn ? thread.userDispatch : undefined);
}

/** The frame is in place; the mask is changed last. */
function setToStub(thread: TracedThread, slot: Slot): void {
  thread.slot = slot;
  switchDispatch(thread, false);
  ptraceSetRegs(thread.tid, arch.stubRegs(thread.regs, slot));
  ptraceSetSigmask(thread.tid, ALL_SIGNALS & ~(1n << BigInt(thread.task.trapSignal - 1)));
  thread.isAtStart = true;
}

/** Takes the stub out of `task` and puts every thread's registers and mask back; the threads stay stopped. */
export function detachStub(task: TracedTask): void {
  finish(detaching(task));
}

/** The same with many at once, each after `before`. Throws the first failure when all others are done. */
export function detachStubs(tasks: readonly TracedTask[], before: (task: TracedTask) => void): void {
  const steps = function* (task: TracedTask): Steps {
    before(task);
    yield* detaching(task);
  };
  together(tasks, steps, true);
}

function* detaching(task: TracedTask): Steps {
  if (task.region === undefined) return;
  for (const thread of task.threads.slice(1)) {
    // The mask first: should we die in between, the stub's tail sets the same mask again.
    ptraceSetSigmask(thread.tid, thread.sigmask);
    ptraceSetRegs(thread.tid, lastRegs(thread));
    switchDispatch(thread, true);
    thread.slot = undefined;
  }
  const { address, length } = task.region;
  const result = yield* withMemory(task.pid, function* (memory) {
    yield* restoreTrap(task, memory, slotAt(address, 0).table);
    const unmapped = yield* callThroughCave(task, memory, { nr: SYS.munmap, args: [address, BigInt(length)] });
    task.region = undefined;
    task.leader.slot = undefined;
    leaveCave(task, memory);
    return unmapped;
  });
  if (result !== 0n) throw kernelError(`munmap(0x${address.toString(16)}) in process ${task.pid}`, result);
}

function leaveCave(task: TracedTask, memory: number): void {
  const { leader } = task;
  ptraceSetSigmask(leader.tid, leader.sigmask);
  ptraceSetRegs(leader.tid, lastRegs(leader));
  switchDispatch(leader, true);
  clearCave(task, memory);
}

/**
 * The registers a thread is let go with. Where it was interrupted in a call the kernel is to decide how that goes on, as for a signal: a
 * handler may be due by now, and then the call ends with EINTR; pause(2) would never return otherwise. It decides when a thread
 * leaves through its signal code, and that it does when an interrupt was asked for, also if it is detached before it stops for it. That
 * comes first: should we die after the registers were set, they are not seen by the thread.
 */
function lastRegs(thread: TracedThread): Buffer {
  if (!arch.isInterruptedCall(thread.regs)) return arch.resumeRegs(thread.regs, true);
  ptraceInterrupt(thread.tid);
  return arch.decidedRegs(thread.regs);
}

function clearCave(task: TracedTask, memory: number): void {
  const { cave } = task;
  if (cave !== undefined) writeSync(memory, unused, 0, arch.caveBytes, Number(cave));
}
