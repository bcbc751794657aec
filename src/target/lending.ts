/**
 * Descriptors that processes being made take from Floe themselves, in the middle of a program: that costs a call, and no round trip.
 *
 * Made with   pidfd_open(2) of Floe in the seed, so that every process made from it is born with that descriptor; pidfd_getfd(2), for
 *             which a process needs the right to trace Floe. It has that while it is being made, unless the machine allows it to nobody
 *
 * Where they may not, descriptors are handed over before a program runs, as to any other process. Nothing is left of either: each
 * process closes whatever it has before it gets its own descriptors.
 */
import { closeSync } from "node:fs";
import { pidfdOpen } from "../linux/process.js";
import { SYS } from "../linux/syscalls.js";
import { handOver } from "./hand-over.js";
import { Program, type ProgramArg } from "./program.js";
import { run } from "./run.js";
import type { TracedTask, TracedThread } from "./thread.js";

/** Gives the seed a descriptor of Floe, if others can be taken by it; `first` adds what else is done there, before. */
export function giveLender(seed: TracedTask, first: (program: Program) => void): void {
  const own = pidfdOpen(process.pid);
  try {
    const program = new Program();
    first(program);
    const lender = program.call(SYS.pidfd_open, process.pid, 0);
    const taken = program.call(SYS.pidfd_getfd, lender, own, 0);
    program.call(SYS.close, taken);
    run(seed.leader, program);
    if (lender.errno === 0 && taken.errno === 0) seed.lender = Number(lender.value);
  } finally {
    closeSync(own);
  }
}

/** Descriptors of ours for the calls that are added to `program` from here on; it has to close them with {@link giveBack}. */
export function lend(program: Program, thread: TracedThread, fds: readonly number[]): ProgramArg[] {
  const { lender } = thread.task;
  if (fds.length === 0) return [];
  if (lender === undefined) return handOver(thread, fds);
  return fds.map((fd) => program.call(SYS.pidfd_getfd, lender, fd, 0).must("taking a descriptor from Floe"));
}

/** Adds the calls that close what was lent. */
export function giveBack(program: Program, lent: readonly ProgramArg[]): void {
  for (const fd of lent) program.call(SYS.close, fd);
}
