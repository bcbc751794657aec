/**
 * Passing descriptors between Floe and a stopped task.
 *
 * Into the task by SCM_RIGHTS over a socket pair that the task makes itself: this needs no right of the task over Floe
 * and crosses every namespace. Out of the task by pidfd_getfd(2).
 */
import { ERRNO, checked, kernelError } from "../linux/errno.js";
import { addressOf, syscallNumber } from "../linux/ffi/native.unsafe.js";
import { pidfdOpen } from "../linux/process.js";
import { SYS } from "../linux/syscalls.js";
import { ENTRY_BYTES, type Place, Program, type ProgramArg } from "./program.js";
import { CLEANUP_CALLS } from "./region.js";
import { run } from "./run.js";
import type { TracedTask, TracedThread } from "./thread.js";

/** Stands for a descriptor that is not there yet; closing it does nothing. */
const NONE = -1;
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** Descriptors one message can carry (net/scm.h: SCM_MAX_FD). */
const SCM_MAX_FD = 253;

/** pidfd_open(2) — a descriptor for process `pid`, close-on-exec. */
export function openPidfd(pid: number): number {
  return pidfdOpen(pid);
}

/** Duplicates descriptor `remoteFd` of the process behind `pidfd` into Floe (close-on-exec); needs CAP_SYS_PTRACE over it. */
export function takeOver(pidfd: number, remoteFd: number): number {
  return checked(syscallNumber(SYS.pidfd_getfd, pidfd, remoteFd, 0), () => `pidfd_getfd(${pidfd}, ${remoteFd})`);
}

/**
 * Puts duplicates of `localFds` into the process of `thread`; returns their numbers there, in order, all close-on-exec.
 *
 * Should the tracer die before the task has closed them, the task closes them itself. `undo` closes them in a program.
 */
export function handOver(thread: TracedThread, localFds: readonly number[]): number[] {
  const make = new Program();
  const pair = make.buffer(8);
  make.call(SYS.socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair).must("making a socket pair to pass descriptors");
  thread.closeOnDeath([NONE, NONE]);
  noteForCleanup(make, thread, { from: pair.at(0), count: 2, index: 0 });
  run(thread, make);
  const ends = [pair.bytes().readInt32LE(0), pair.bytes().readInt32LE(4)] as const;
  thread.closeOnDeath(ends);
  const pidfd = openPidfd(thread.task.pid);
  const got: number[] = [];
  try {
    const socket = takeOver(pidfd, ends[0]);
    try {
      for (let i = 0; i < localFds.length; i += SCM_MAX_FD) {
        const part = localFds.slice(i, i + SCM_MAX_FD);
        send(socket, part);
        const stray = [...ends, ...got];
        thread.closeOnDeath([...stray, ...part.map(() => NONE)]);
        got.push(...receive(thread, ends[1], { count: part.length, index: stray.length }));
        thread.closeOnDeath([...ends, ...got]);
      }
    } finally {
      syscallNumber(SYS.close, socket);
    }
  } finally {
    syscallNumber(SYS.close, pidfd);
    closeRemote(thread, ends);
    thread.closeOnDeath(got);
  }
  return got;
}

/**
 * The same for files that sockets do not carry (rings of io_uring): the process takes them from Floe by pidfd_getfd(2), for which it
 * needs the right to trace Floe. It has that while it is being made, and Floe's own rights.
 */
export function handOverTaken(thread: TracedThread, localFds: readonly number[]): number[] {
  const own = openPidfd(process.pid);
  try {
    const [pidfd] = handOver(thread, [own]) as [number];
    const program = new Program();
    const got = localFds.map((fd) => program.call(SYS.pidfd_getfd, pidfd, fd, 0).must("taking a descriptor from Floe"));
    try {
      run(thread, program);
    } finally {
      closeRemote(thread, [pidfd]);
    }
    return got.map((result) => Number(result.value));
  } finally {
    syscallNumber(SYS.close, own);
  }
}

/**
 * Has the task make a descriptor by system call `nr` and takes it out of the task; undefined when the call fails.
 *
 * Should the tracer die meanwhile, the task closes it itself.
 */
export function makeInside(thread: TracedThread, nr: number, ...args: readonly ProgramArg[]): number | undefined {
  const program = new Program();
  const made = program.call(nr, ...args);
  const number = program.buffer(8);
  program.store(number, made, 4);
  thread.closeOnDeath([NONE]);
  noteForCleanup(program, thread, { from: number.at(0), count: 1, index: 0 });
  try {
    run(thread, program);
  } finally {
    // Also when the end of the program was not seen: what it has made is closed with the other strays.
    thread.closeOnDeath(made.ran && made.errno === 0 ? [Number(made.value)] : []);
  }
  if (made.errno !== 0) return undefined;
  const fd = Number(made.value);
  try {
    const pidfd = openPidfd(thread.task.pid);
    try {
      return takeOver(pidfd, fd);
    } finally {
      syscallNumber(SYS.close, pidfd);
    }
  } finally {
    closeRemote(thread, [fd]);
  }
}

/**
 * Has the program itself write the numbers of descriptors it gets into the cleanup table, from entry `index` on: should the
 * tracer die before it has even learnt them, the task closes them all the same.
 */
function noteForCleanup(program: Program, thread: TracedThread, fds: { from: Place; count: number; index: number }): void {
  for (let i = 0; i < fds.count && fds.index + i < CLEANUP_CALLS; i++) {
    const place = { data: fds.from.data, offset: fds.from.offset + i * 4 };
    program.copy(place, cleanupArgument(thread, fds.index + i), 4);
  }
}

/** Where the cleanup table has the descriptor of its entry `index`. */
function cleanupArgument({ slot, tid }: TracedThread, index: number): bigint {
  if (slot === undefined) throw new Error(`internal error: thread ${tid} has no stub`);
  return slot.cleanup + BigInt(index * ENTRY_BYTES + 8);
}

/** Closes descriptors in the task. */
export function closeRemote(thread: TracedThread, fds: readonly number[]): void {
  const program = new Program();
  // What is closed here must not be closed again by the cleanup: the number may be another thread's descriptor by then.
  const none = program.bytes(Buffer.alloc(4, 0xff)).at(0);
  for (const [index, stray] of thread.strayFds.slice(0, CLEANUP_CALLS).entries()) {
    if (fds.includes(stray)) program.copy(none, cleanupArgument(thread, index), 4);
  }
  for (const fd of fds) program.call(SYS.close, fd);
  run(thread, program);
  thread.closeOnDeath([]);
}

/** Closes what a step that failed has left open in the process. */
export function closeStrays(task: TracedTask): void {
  for (const thread of task.threads) if (thread.strayFds.length > 0) closeRemote(thread, thread.strayFds);
}

function controlMessage(fds: number): { control: Buffer; message: Buffer; vector: Buffer } {
  const control = Buffer.alloc(Math.ceil((16 + fds * 4) / 8) * 8); // struct cmsghdr { size_t len; int level; int type; }
  control.writeBigUInt64LE(BigInt(16 + fds * 4), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  return { control, message: Buffer.alloc(56), vector: Buffer.alloc(16) };
}

function send(socket: number, fds: readonly number[]): void {
  const { control, message, vector } = controlMessage(fds.length);
  fds.forEach((fd, i) => control.writeInt32LE(fd, 16 + i * 4));
  const byte = Buffer.alloc(1);
  vector.writeBigUInt64LE(addressOf(byte), 0);
  vector.writeBigUInt64LE(1n, 8);
  message.writeBigUInt64LE(addressOf(vector), 16); // struct msghdr: iov at 16, iovlen at 24, control at 32, its length at 40
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(addressOf(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  checked(syscallNumber(SYS.sendmsg, socket, message, 0), () => `sendmsg(${socket}, SCM_RIGHTS × ${fds.length})`);
  // SAFETY: byte, vector and control are reachable until here.
  if (byte.length + vector.length + control.length === 0) throw new Error("internal error");
}

function receive(thread: TracedThread, socket: number, { count, index }: { count: number; index: number }): number[] {
  const program = new Program();
  const control = program.buffer(Math.ceil((16 + count * 4) / 8) * 8);
  // A process whose table is full gets fewer than were sent: what did not come must not look like descriptor 0.
  control.content.fill(0xff, 16);
  const byte = program.buffer(8);
  const rest = program.buffer(16 + 56); // struct iovec, then struct msghdr
  for (const [at, place] of [
    [0, byte],
    [16 + 16, rest],
    [16 + 32, control],
  ] as const) {
    program.storeAddress(rest.at(at), place.at(0));
  }
  rest.content.writeBigUInt64LE(1n, 8);
  rest.content.writeBigUInt64LE(1n, 16 + 24);
  rest.content.writeBigUInt64LE(BigInt(control.content.length), 16 + 40);
  program.call(SYS.recvmsg, socket, rest.at(16), MSG_CMSG_CLOEXEC).must("receiving descriptors");
  noteForCleanup(program, thread, { from: control.at(16), count, index });
  run(thread, program);
  const numbers = Array.from({ length: count }, (_, i) => control.bytes().readInt32LE(16 + i * 4));
  const came = numbers.filter((fd) => fd >= 0);
  if (came.length === count) return numbers;
  if (came.length > 0) closeRemote(thread, came);
  throw kernelError(`recvmsg(SCM_RIGHTS × ${count})`, ERRNO.EMFILE, `passing descriptors to process ${thread.task.pid}`);
}
