/**
 * What a probe of the kernel is, and the tools to write one. A probe tries the thing itself; it never asks for a version.
 */
import { readFileSync } from "node:fs";
import { close } from "../../linux/files.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import { LEADER_SLOT_BYTES } from "../../target/region.js";
import { killTask, startSeed } from "../../target/seed.js";
import type { TracedThread } from "../../target/thread.js";

/** Something the kernel may have or lack. */
export interface Probe {
  /** The name by which `check --feature` knows it, or one of our own for what has none. */
  readonly name: string;
  /** Tries it, and throws when it is not there. Leaves nothing behind. */
  readonly attempt: () => void;
}

/** Why a probe says no, where no system call failed. */
export class Lacking extends Error {
  override readonly name = "Lacking";
}

/** States what the kernel must have done. */
export function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Lacking(otherwise);
}

/** A process of its own to try things in: it holds nothing, shares nothing with us, and is killed afterwards. */
const SANDBOX = { region: 0x1000_0000n, regionBytes: 4096 + LEADER_SLOT_BYTES };

/** Runs `use` with the one thread of a sandbox, which is held by ptrace. */
export function withSandbox<R>(use: (thread: TracedThread) => R): R {
  const task = startSeed(SANDBOX, new Set());
  try {
    return use(task.leader);
  } finally {
    killTask(task);
  }
}

/** Runs calls in a thread; returns what `build` returned, whose results then have their values. */
export function calls<R>(thread: TracedThread, build: (program: Program) => R): R {
  const program = new Program();
  const results = build(program);
  run(thread, program);
  return results;
}

/** Tries namespaces of these kinds (CLONE_NEW…) in a sandbox. */
export function tryUnshare(flags: number): void {
  withSandbox((thread) => calls(thread, (p) => p.call(SYS.unshare, flags).must()));
}

/** Gives `use` descriptors, which are closed afterwards whatever happens. */
export function withFds<R>(open: () => readonly number[], use: (...fds: readonly number[]) => R): R {
  const fds = open();
  try {
    return use(...fds);
  } finally {
    for (const fd of fds) close(fd);
  }
}

/** Our own copy of a descriptor of a sandbox: a socket keeps the network namespace in which it was made. */
export function withFdOf<R>(thread: TracedThread, remoteFd: number, use: (fd: number) => R): R {
  return withFds(
    () => [pidfdOpen(thread.task.pid)],
    (pidfd = -1) =>
      withFds(
        () => [pidfdGetfd(pidfd, remoteFd)],
        (fd = -1) => use(fd),
      ),
  );
}

/** Text of a small file of /proc or /sys. */
export function fileText(path: string): string {
  return readFileSync(path, "latin1");
}

/** Demands a line that begins with `key` in our own fdinfo of `fd`. */
export function expectFdinfo(fd: number, key: string): void {
  expect(fileText(`/proc/self/fdinfo/${fd}`).includes(key), `/proc/self/fdinfo has no "${key}"`);
}
