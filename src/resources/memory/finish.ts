/**
 * What an address space gets last: protection, advice, locks, and what the kernel remembers about its layout.
 *
 * Made with   mprotect(2), madvise(2), mlock(2), prctl(PR_SET_THP_DISABLE), prctl(PR_SET_MM_MAP), prctl(PR_SET_DUMPABLE)
 */
import { closeSync, readFileSync } from "node:fs";
import { MADV_GUARD_INSTALL, MAP_LOCKED, MLOCK_ONFAULT } from "../../linux/memory.js";
import { SYS } from "../../linux/syscalls.js";
import { giveBack, lend } from "../../target/lending.js";
import { type Program, Result } from "../../target/program.js";
import type { TracedTask } from "../../target/thread.js";
import { openRegular } from "../files/regular.js";
import { finishSegments } from "../ipc/shm.js";
import type { Fd, RestoreSession } from "../part.js";
import type { Opened } from "./address-space.js";
import { AREA, adviceOf, isOrdinary } from "./area.js";
import type { PageRange } from "./inherit.js";
import { memfdForMapping, sealMemfds } from "./memfd.js";
import type { SavedSpace } from "./saved-space.js";

/** uapi/linux/prctl.h */
const PR_SET_DUMPABLE = 4;
const PR_SET_MM = 35;
const PR_SET_MM_MAP = 14;
const PR_SET_THP_DISABLE = 41;
const PR_SET_VMA = 0x53564d41;
const PR_SET_VMA_ANON_NAME = 0;
const MM_MAP_BYTES = 104;
const O_RDONLY = 0;

/** A filled address space. */
export interface Filled {
  readonly task: TracedTask;
  readonly space: SavedSpace;
  /** Mappings that are writable only because they were filled. */
  readonly opened: Opened;
  /** The process in whose memory it lives, if it is not its own. */
  readonly owner: TracedTask | undefined;
}

/** Adds the calls that give every mapping its own protection, advice and lock. */
export function addFinish(program: Program, { space, opened }: Filled): void {
  const vmas = space.mm.vmas.filter(isOrdinary);
  for (const vma of vmas) {
    const bytes = vma.end - vma.start;
    if (opened.has(vma)) program.call(SYS.mprotect, vma.start, bytes, vma.prot).must("setting the protection of a mapping");
    if (vma.anon_name !== undefined) addName(program, vma, vma.anon_name);
    for (const advice of adviceOf(vma)) program.call(SYS.madvise, vma.start, bytes, advice).must(`advice ${advice} about a mapping`);
  }
  // After advice, which may part a mapping from its neighbour: both would be marked as having guards. Before locks: a locked
  // mapping takes none.
  for (const { start, end } of guardsOf(space))
    program.call(SYS.madvise, start, end - start, MADV_GUARD_INSTALL).must("making a range fault");
  for (const vma of vmas) {
    if ((vma.flags & MAP_LOCKED) === 0) continue;
    const onFault = vma.locked_on_fault === true ? MLOCK_ONFAULT : 0;
    program.call(SYS.mlock2, vma.start, vma.end - vma.start, onFault).must("locking a mapping");
  }
  if (space.mm.lock_future !== undefined) program.call(SYS.mlockall, space.mm.lock_future).must("locking what will be mapped");
  if (space.mm.thp_disabled === true)
    program.call(SYS.prctl, PR_SET_THP_DISABLE, 1, space.mm.thp_disabled_but ?? 0, 0, 0).must("disabling huge pages");
}

/** A kernel without names (CONFIG_ANON_VMA_NAME) says EINVAL; nobody but who looks at the process misses them. */
function addName(program: Program, { start, end }: { start: bigint; end: bigint }, name: string): void {
  program.call(SYS.prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, end - start, program.cstring(name));
}

/** Guard ranges as Floe and as CRIU 4.2 write them. */
function guardsOf({ mm }: SavedSpace): readonly PageRange[] {
  return [...mm.guards, ...mm.vmas.filter((vma) => vma.status & AREA.GUARD)];
}

/** Executables, each opened once for all processes that show it. */
export class Executables {
  readonly #session: RestoreSession;
  readonly #open = new Map<number, Fd>();

  constructor(session: RestoreSession) {
    this.#session = session;
  }

  of(space: SavedSpace): Fd {
    const id = space.mm.exe_file_id;
    let fd = this.#open.get(id);
    if (fd === undefined) {
      fd = openExecutable(space, this.#session);
      this.#open.set(id, fd);
    }
    return fd;
  }

  close(): void {
    for (const fd of this.#open.values()) closeSync(fd);
  }
}

/** Memory that all processes show is whole now. */
export function finishObjects(session: RestoreSession): void {
  sealMemfds(session);
  finishSegments(session);
}

/** Adds the call that tells the kernel the layout: code, data, heap, stack, arguments, environment, auxiliary vector, executable. */
export function addLayout(program: Program, { task, space }: Filled, executables: Executables): void {
  const { mm } = space;
  const lent = lend(program, task.leader, [executables.of(space)]);
  const [fd = -1] = lent;
  const auxv = program.bytes(Buffer.alloc(mm.mm_saved_auxv.length * 8));
  mm.mm_saved_auxv.forEach((word, i) => auxv.content.writeBigUInt64LE(word, i * 8));
  const map = program.bytes(Buffer.alloc(MM_MAP_BYTES));
  [
    mm.mm_start_code,
    mm.mm_end_code,
    mm.mm_start_data,
    mm.mm_end_data,
    mm.mm_start_brk,
    mm.mm_brk,
    mm.mm_start_stack,
    mm.mm_arg_start,
    mm.mm_arg_end,
    mm.mm_env_start,
    mm.mm_env_end,
  ].forEach((value, i) => map.content.writeBigUInt64LE(value, i * 8));
  if (auxv.content.length > 0) program.storeAddress(map.at(88), auxv);
  map.content.writeUInt32LE(auxv.content.length, 96);
  if (fd instanceof Result) program.store(map.at(100), fd, 4);
  else map.content.writeInt32LE(Number(fd), 100);
  program
    .call(SYS.prctl, PR_SET_MM, PR_SET_MM_MAP, map, MM_MAP_BYTES, 0)
    .must(`setting the layout and executable of process ${space.pid} (${space.comm})`);
  giveBack(program, lent);
}

function openExecutable({ mm, pid }: SavedSpace, session: RestoreSession): Fd {
  const entry = session.fileEntry(mm.exe_file_id);
  if (entry?.memfd !== undefined) return memfdForMapping(entry.memfd.inode_id, O_RDONLY, session);
  if (entry?.reg === undefined) throw new Error(`internal error: process ${pid} has no executable`);
  return openRegular({ ...entry.reg, pos: 0n }, session, O_RDONLY);
}

/**
 * Whether others may trace and dump it: after credentials, whose change resets it.
 *
 * 2 (only root may read a core dump) cannot be set, EINVAL; it comes with a change of credentials where the sysctl
 * fs.suid_dumpable says so. Elsewhere 0 is what gives nobody a right that was not there.
 */
export function addDumpable(program: Program, space: SavedSpace): void {
  const { dumpable } = space.mm;
  if (dumpable === 2 && readSuidDumpable() === 2) return;
  if (dumpable !== undefined) program.call(SYS.prctl, PR_SET_DUMPABLE, dumpable === 1 ? 1 : 0, 0, 0, 0).must("setting the dumpable flag");
}

function readSuidDumpable(): number {
  return Number(readFileSync("/proc/sys/fs/suid_dumpable", "latin1"));
}
