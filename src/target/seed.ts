/**
 * The seed: the first process of a restore, from which all others are cloned.
 *
 * It is a static ELF of one page made in memory. Its only other content is the stub region, which the kernel makes behind
 * that page as the program's bss: anonymous memory at an address where no restored task has a mapping. So a clone of the
 * seed has an address space that is as good as empty.
 */
import { closeSync, writeSync } from "node:fs";
import { checked, kernelError } from "../linux/errno.js";
import { posixSpawn, syscallNumber } from "../linux/ffi/native.unsafe.js";
import { PTRACE_O_EXITKILL, PTRACE_O_TRACESYSGOOD, ptraceGetRegs, ptraceInterrupt, ptraceSeize, waitThread } from "../linux/ptrace.js";
import { SYS } from "../linux/syscalls.js";
import { arch } from "./arch.js";
import { regionHeader } from "./region.js";
import { writeTarget } from "./run.js";
import { parkThreads } from "./stub-attach.js";
import { TracedTask, TracedThread } from "./thread.js";

const PAGE = 4096;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
/** Behind the headers. */
const ENTRY_OFFSET = 0x80;
const MFD_CLOEXEC = 1;

/** Where the seed's memory lies: its ELF page directly below the stub region. */
export interface SeedPlace {
  /** Address of the stub region; the page below it must be free too. */
  readonly region: bigint;
  /** Length of the region in bytes. */
  readonly regionBytes: number;
}

/** Bytes below the region that the seed needs besides. */
export const SEED_PAGE_BYTES = PAGE;

/** ELF64 (elf.h) with one loadable segment: this page from the file, the region as zero-filled rest. */
function seedElf(place: SeedPlace): Buffer {
  const page = Buffer.alloc(PAGE);
  const base = place.region - BigInt(PAGE);
  page.write("\x7fELF\x02\x01\x01", 0, "latin1");
  page.writeUInt16LE(2, 16); // ET_EXEC
  page.writeUInt16LE(62, 18); // EM_X86_64
  page.writeUInt32LE(1, 20);
  page.writeBigUInt64LE(base + BigInt(ENTRY_OFFSET), 24);
  page.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32);
  page.writeUInt16LE(ELF_HEADER_BYTES, 52);
  page.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  page.writeUInt16LE(1, 56);
  const ph = ELF_HEADER_BYTES;
  page.writeUInt32LE(1, ph); // PT_LOAD
  page.writeUInt32LE(7, ph + 4); // PF_R | PF_W | PF_X
  page.writeBigUInt64LE(0n, ph + 8);
  page.writeBigUInt64LE(base, ph + 16);
  page.writeBigUInt64LE(base, ph + 24);
  page.writeBigUInt64LE(BigInt(PAGE), ph + 32);
  page.writeBigUInt64LE(BigInt(PAGE + place.regionBytes), ph + 40);
  page.writeBigUInt64LE(BigInt(PAGE), ph + 48);
  page.set(arch.seedEntry(process.pid), ENTRY_OFFSET);
  return page;
}

/**
 * Starts the seed and parks it at the stub. It dies with Floe, and so does everything cloned from it, until released: by its own
 * code until it is traced, then by PTRACE_O_EXITKILL.
 *
 * `avoid`: pids it must not have, because they will be needed.
 */
export function startSeed(place: SeedPlace, avoid: ReadonlySet<number>): TracedTask {
  const name = Buffer.from("floe-seed\0");
  const memfd = checked(syscallNumber(SYS.memfd_create, name, MFD_CLOEXEC), () => "memfd_create(floe-seed)");
  try {
    writeSync(memfd, seedElf(place));
    return spawn(memfd, place, avoid);
  } finally {
    closeSync(memfd);
  }
}

/** Starts a seed that nobody holds: a process that does nothing, for trying things out. Ends by SIGKILL, or with us. */
export function startIdle(place: SeedPlace): number {
  const name = Buffer.from("floe-idle\0");
  const memfd = checked(syscallNumber(SYS.memfd_create, name, MFD_CLOEXEC), () => "memfd_create(floe-idle)");
  try {
    writeSync(memfd, seedElf(place));
    return exec(memfd, "floe-idle");
  } finally {
    closeSync(memfd);
  }
}

function exec(memfd: number, name: string): number {
  const pid = posixSpawn(`/proc/self/fd/${memfd}`, [name], []);
  if (pid < 0) throw kernelError(`posix_spawn(${name})`, pid);
  return pid;
}

function spawn(memfd: number, place: SeedPlace, avoid: ReadonlySet<number>): TracedTask {
  const pid = exec(memfd, "floe-seed");
  const task = new TracedTask(pid, "floe-seed");
  try {
    if (avoid.has(pid)) {
      // Hold this pid until a seed with another one exists, then give it back.
      const other = spawn(memfd, place, avoid);
      killTask(task);
      return other;
    }
    checked(ptraceSeize(pid, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD), () => `ptrace(PTRACE_SEIZE, ${pid})`);
    checked(ptraceInterrupt(pid), () => `ptrace(PTRACE_INTERRUPT, ${pid})`);
    const status = waitThread(pid);
    if (status.kind !== "event-stop") throw kernelError(`seed ${pid}: ${JSON.stringify(status)}`, 3);
    const thread = new TracedThread(task, pid);
    task.threads.push(thread);
    task.region = { address: place.region, length: place.regionBytes };
    writeTarget(thread, place.region, regionHeader(arch.stubCode));
    adoptStopped(thread, 0);
    return task;
  } catch (error) {
    killTask(task);
    throw error;
  }
}

/** Parks a thread of a process being made, that has stopped for the first time, at its slot of the region. */
export function adoptStopped(thread: TracedThread, index: number): void {
  adoptAllStopped([thread], index);
}

/** The same with threads of one process, whose slots begin with that of number `first`. */
export function adoptAllStopped(threads: readonly TracedThread[], first: number): void {
  const [one] = threads;
  if (one === undefined) return;
  const { pid, region } = one.task;
  if (region === undefined) throw new Error(`internal error: process ${pid} has no stub region`);
  for (const thread of threads) {
    thread.regs = Buffer.alloc(arch.regsBytes);
    ptraceGetRegs(thread.tid, thread.regs);
    thread.sigmask = 0n;
  }
  parkThreads(threads, region.address, first);
}

/** Kills a process that we hold and takes note of its death; a process that is gone already is no error. */
export function killTask(task: TracedTask): void {
  syscallNumber(SYS.kill, task.pid, 9);
  for (const thread of [...task.threads.slice(1), ...task.threads.slice(0, 1)]) waitDeath(thread.tid);
  if (task.threads.length === 0) waitDeath(task.pid);
}

/** Waits until thread `tid` of ours is dead; stops on the way do not matter, SIGKILL ends them. */
export function waitDeath(tid: number): void {
  for (;;) {
    try {
      const status = waitThread(tid);
      if (status.kind === "exited" || status.kind === "killed") return;
    } catch {
      return; // ECHILD: its death has been noted already
    }
  }
}
