/**
 * The mappings of a process: what mm-PID.img says of its address space.
 *
 * Read from   /proc/PID/{smaps,stat,auxv,exe,map_files}; brk(2) and prctl(2) inside
 * Made with   mmap(2), mremap(2), mprotect(2), madvise(2), prctl(PR_SET_MM_MAP): see address-space.ts and finish.ts
 */
import { readlinkSync, statSync } from "../../linux/named-files.js";
import { Refusal } from "../../errors.js";
import type { Vma } from "../../linux/proc/maps.js";
import { MCL_FUTURE, MCL_ONFAULT } from "../../linux/memory.js";
import { readAuxv, readStatus } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import { readMappings } from "../../linux/vma-flags.js";
import { type Attached, dumpSegments } from "../ipc/shm.js";
import type { DumpSession, DumpTask, PathFile, ThreadPart } from "../part.js";
import { ringFileId } from "../sockets/packet.js";
import { dumpContexts, settleContexts } from "./aio.js";
import { AREA, type AreaKind, adviceBits, areaKind, mapFlags, protection } from "./area.js";
import { dumpInode, isDumpedAsFile, memfdFileId, memfdName, sharedMemoryId } from "./memfd-dump.js";
import type { MmEntry } from "./mm.schema.js";
import { dumpPolicies } from "./policies.js";
import { isRing } from "../events/io-uring-state.js";
import { ringMapping } from "../events/io-uring.js";
import { isSecret, secretMemory } from "./secret.js";
import type { VmaEntry } from "./vma.schema.js";

/** uapi/linux/prctl.h */
const PR_GET_DUMPABLE = 3;
const PR_GET_THP_DISABLE = 42;
const O_RDWR = 2;

/** What only the process itself can tell. */
interface Inside {
  readonly brk: bigint;
  readonly dumpable: number;
  /** PR_GET_THP_DISABLE: the lowest bit, and since 6.18 flags. */
  readonly thpDisabled: number;
}

/** The address space of every task, in the order of `tasks`. Unsupported mappings go to `session.refuse`. */
export function dumpMappings(tasks: readonly DumpTask[], session: DumpSession): MmEntry[] {
  noteSharedUsedAsFile(tasks, session);
  dumpAttachedSegments(tasks, session);
  const policies = dumpPolicies(tasks, session);
  settleContexts(tasks, session);
  return tasks.map((task) => {
    const mm = mmOf(task, policies, session);
    written.set(task, mm);
    return mm;
  });
}

type Policies = ReturnType<typeof dumpPolicies>;

const written = new WeakMap<DumpTask, MmEntry>();

/** Guard ranges show only when pages are looked for; the message about the mappings is finished then. */
export function noteGuards(task: DumpTask, guards: MmEntry["guards"]): void {
  const mm = written.get(task);
  if (mm !== undefined) mm.guards = guards;
}

const inside = new WeakMap<DumpTask, Inside>();

/** Asks it, together with everything else that is asked in the process. */
export const addressSpace: ThreadPart = {
  name: "memory/address-space",
  rows: [],
  stage: "process",
  uniform: "now",

  dump({ isLeader, program, task }) {
    if (!isLeader) return undefined;
    const brk = program.call(SYS.brk, 0);
    const dumpable = program.call(SYS.prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
    const thp = program.call(SYS.prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0);
    return () => {
      inside.set(task, { brk: brk.value, dumpable: Number(dumpable.value), thpDisabled: thp.errno === 0 ? Number(thp.value) : 0 });
    };
  },
};

function insideOf(task: DumpTask): Inside {
  const found = inside.get(task);
  if (found === undefined) throw new Error(`internal error: process ${task.pid} was not asked about its memory`);
  return found;
}

function mmOf(task: DumpTask, policies: Policies, session: DumpSession): MmEntry {
  const { stat } = task;
  const { brk, dumpable, thpDisabled } = insideOf(task);
  return {
    mm_start_code: stat.startCode,
    mm_end_code: stat.endCode,
    mm_start_data: stat.startData,
    mm_end_data: stat.endData,
    mm_start_stack: stat.startStack,
    mm_start_brk: stat.startBrk,
    mm_brk: brk,
    mm_arg_start: stat.argStart,
    mm_arg_end: stat.argEnd,
    mm_env_start: stat.envStart,
    mm_env_end: stat.envEnd,
    exe_file_id: executableId(task, session),
    // Without the closing AT_NULL pair: CRIU takes a longer vector than that for a damaged image.
    mm_saved_auxv: readAuxv(task.traced.pid).slice(0, -2),
    vmas: vmaEntries(task, session),
    dumpable,
    aios: dumpContexts(task),
    guards: [],
    policies: [...(policies.get(task) ?? [])],
    ...lockFuture(task),
    thp_disabled: (thpDisabled & 1) !== 0,
    ...(thpDisabled > 1 ? { thp_disabled_but: thpDisabled & ~1 } : {}),
  };
}

/**
 * What mlockall(2) said of mappings to come. Nobody tells, but the stub's region is such a mapping: if it is locked, the
 * count of locked memory has grown by it since before it came.
 */
function lockFuture(task: DumpTask): { lock_future?: number } {
  const { pid, region } = task.traced;
  if (region === undefined || readStatus(pid).lockedKib === task.status.lockedKib) return {};
  const own = readMappings(pid).find((vma) => vma.start <= region.address && vma.end > region.address);
  if (own?.flags.has("lo") !== true) return {};
  return { lock_future: MCL_FUTURE | (own.flags.has("lf") ? MCL_ONFAULT : 0) };
}

function executableId(task: DumpTask, session: DumpSession): number {
  const procPath = `/proc/${task.traced.pid}/exe`;
  if (memfdName(readlinkSync(procPath)) !== undefined) return memfdFileId(procPath, 0, session);
  return session.fileId({ task, procPath, flags: 0, isPrivate: true });
}

/**
 * Shared anonymous memory that is mapped privately by somebody came there through a descriptor: it has to be a file for
 * all, or those who map it would not share it any more. So has memory that is not as long as what is mapped of it, because
 * only the message about a file says how long it is.
 */
function noteSharedUsedAsFile(tasks: readonly DumpTask[], session: DumpSession): void {
  const ends = new Map<bigint, { end: bigint; path: string }>();
  for (const task of tasks) {
    for (const vma of task.vmas) {
      const kind = areaKind(vma);
      if (kind === "memfd" && !vma.name.startsWith("/memfd:")) dumpInode(mapFile(task, vma), session);
      if (kind !== "shared-anonymous") continue;
      const end = vma.offset + (vma.end - vma.start);
      if (end > (ends.get(vma.inode)?.end ?? 0n)) ends.set(vma.inode, { end, path: mapFile(task, vma) });
    }
  }
  for (const { end, path } of ends.values()) if (statSync(path, { bigint: true }).size !== end) dumpInode(path, session);
}

function dumpAttachedSegments(tasks: readonly DumpTask[], session: DumpSession): void {
  const users = new Map<number, Attached>();
  for (const task of tasks) {
    for (const vma of task.vmas) {
      if (areaKind(vma) !== "sysv") continue;
      users.set(Number(vma.inode), {
        task,
        name: vma.name,
        hugeBytes: vma.flags.has("ht") ? BigInt(vma.kernelPageSizeKib << 10) : undefined,
      });
    }
  }
  dumpSegments(users, session);
}

/** The path through which the very file behind a mapping can be opened. */
function mapFile(task: DumpTask, vma: Vma): string {
  return `/proc/${task.traced.pid}/map_files/${vma.start.toString(16)}-${vma.end.toString(16)}`;
}

/** What a mapping is, and the number of the object behind it. */
interface Described {
  readonly vma: Vma;
  readonly kind: AreaKind;
  readonly shmid: bigint;
}

/** What needs the process is found out now; the entries themselves are made later. */
function vmaEntries(task: DumpTask, session: DumpSession): VmaEntry[] {
  const described: Described[] = [];
  for (const vma of task.vmas) {
    if (isPlain(vma)) {
      described.push({ vma, kind: "anonymous", shmid: 0n });
      continue;
    }
    const kind = kindInImage(vma, session);
    // The kernel makes this area itself where a probe is met.
    if (kind === "uprobes" && session.options.allowUprobes === true) continue;
    const refusal = isRing(vma) ? ringMapping(task, vma, session) : refusalOf(task, vma, kind);
    if (refusal === undefined) described.push({ vma, kind, shmid: objectBehind(task, vma, { kind, session }) });
    else session.refuse(refusal);
  }
  const entries: VmaEntry[] = [];
  session.later(() => {
    for (const one of described) {
      const last = entries.at(-1);
      // The pages of kernel data come as one area, however the kernel divides them.
      if (one.kind === "vvar" && last !== undefined && last.status & AREA.VVAR && last.end === one.vma.start) last.end = one.vma.end;
      else entries.push(vmaEntry(one));
    }
  });
  return entries;
}

/** Anonymous memory of no special kind: nothing of the process is needed any more to say what it is. There can be ten thousands of it. */
function isPlain({ inode, name, flags }: Vma): boolean {
  return name === "" && inode === 0n && !flags.has("io") && !flags.has("pf");
}

const ringArea = (vma: Vma) => ({ inode: vma.inode, offset: vma.offset, bytes: vma.end - vma.start });

function kindInImage(vma: Vma, session: DumpSession): AreaKind {
  const kind = areaKind(vma);
  // Of other sockets, and of those that no descriptor leads to any more, nothing can be made.
  if (kind === "packet-ring" && ringFileId(session, ringArea(vma)) === undefined) return "special";
  return kind === "shared-anonymous" && isDumpedAsFile(vma, session) ? "memfd" : kind;
}

function vmaEntry({ vma, kind, shmid }: Described): VmaEntry {
  const madv = adviceBits(vma);
  const entry: VmaEntry = {
    start: vma.start,
    end: vma.end,
    pgoff: kind === "file" || kind === "memfd" || kind === "sysv" || kind === "shared-anonymous" ? vma.offset : 0n,
    shmid,
    prot: protection(vma),
    flags: mapFlags(vma, kind),
    status: statusOf(vma, kind),
    fd: -1n,
  };
  if (madv !== 0n) entry.madv = madv;
  if (vma.flags.has("lf")) entry.locked_on_fault = true;
  const called = /^\[anon(_shmem)?:(.*)\]$/.exec(vma.name)?.[2];
  if (called !== undefined) entry.anon_name = called;
  if (kind === "sysv") entry.fdflags = vma.flags.has("mw") ? O_RDWR : 0;
  if (kind === "file" || kind === "memfd") entry.fdflags = openFlags(vma);
  return entry;
}

/**
 * Only a file opened for writing gives a shared mapping that may be made writable. CRIU opens a file once for all its mappings, so
 * the two ways of opening need an entry each.
 */
function openFlags(vma: Vma): number {
  return vma.shared && vma.flags.has("mw") ? O_RDWR : 0;
}

/** The number of the file, the segment or the memory that a mapping shows; 0: there is none. */
function objectBehind(task: DumpTask, vma: Vma, { kind, session }: { kind: AreaKind; session: DumpSession }): bigint {
  if (kind === "shared-anonymous") return sharedMemoryId(vma.inode, session);
  if (kind === "packet-ring") return BigInt(ringFileId(session, ringArea(vma)) ?? 0);
  if (kind === "sysv") return vma.inode;
  if (kind !== "file" && kind !== "memfd") return 0n;
  const flags = openFlags(vma);
  if (kind === "memfd") return BigInt(memfdFileId(mapFile(task, vma), flags, session));
  const key = `${vma.devMajor}:${vma.devMinor}:${vma.inode}:${flags}`;
  return BigInt(session.fileId(new MappedFile(task, vma, { flags, key, isPrivate: !vma.shared })));
}

/** The path is only made for the first mapping of a file. */
class MappedFile implements PathFile {
  readonly task: DumpTask;
  readonly flags: number;
  readonly key: string;
  readonly isPrivate: boolean;
  readonly #vma: Vma;

  constructor(task: DumpTask, vma: Vma, { flags, key, isPrivate }: { flags: number; key: string; isPrivate: boolean }) {
    this.task = task;
    this.flags = flags;
    this.key = key;
    this.isPrivate = isPrivate;
    this.#vma = vma;
  }

  get procPath(): string {
    return mapFile(this.task, this.#vma);
  }
}

function statusOf(vma: Vma, kind: AreaKind): number {
  switch (kind) {
    case "vsyscall":
      return AREA.VSYSCALL | AREA.ANON_PRIVATE;
    case "vdso":
      return AREA.REGULAR | AREA.VDSO | AREA.ANON_PRIVATE;
    case "vvar":
      return AREA.REGULAR | AREA.VVAR | AREA.ANON_PRIVATE;
    case "aio":
      return AREA.AIO;
    case "packet-ring":
      return AREA.REGULAR | AREA.SOCKET;
    case "sysv":
      return AREA.REGULAR | AREA.ANON_SHARED | AREA.SYSV;
    case "shared-anonymous":
      return AREA.REGULAR | AREA.ANON_SHARED;
    case "memfd":
      return AREA.REGULAR | AREA.MEMFD | (vma.shared ? AREA.FILE_SHARED : AREA.FILE_PRIVATE);
    case "file":
      return AREA.REGULAR | (vma.shared ? AREA.FILE_SHARED : AREA.FILE_PRIVATE);
    case "special":
      return AREA.IO_URING;
    default:
      return AREA.REGULAR | AREA.ANON_PRIVATE | (vma.name === "[heap]" ? AREA.HEAP : 0) | (vma.flags.has("ss") ? AREA.SHSTK : 0);
  }
}

/** Mappings that are not carried, each with its reason. */
export function refusalOf(task: DumpTask, vma: Vma, kind: AreaKind): Refusal | undefined {
  const refuse = (code: string, because: string, remedy: string) =>
    new Refusal({
      code,
      process: { pid: task.traced.pid, comm: task.comm },
      resource: `mapping ${vma.start.toString(16)}-${vma.end.toString(16)} (${vma.name === "" ? "anonymous" : vma.name})`,
      because,
      remedy: [remedy],
    });
  if (kind === "uprobes") {
    const remedy = "Use --allow-uprobes (the kernel makes active probes again when it is restored), or end the tracing";
    return refuse("MAPPING_UPROBES", "somebody traces the program by uprobes", remedy);
  }
  if (isSecret(vma)) return secretMemory(task, `mapping ${vma.start.toString(16)}-${vma.end.toString(16)}`);
  if (kind === "special")
    return refuse("MAPPING_SPECIAL", "the object behind it has no form that can be saved", "Close or unmap it before the dump");
  if (kind !== "vvar" && (vma.flags.has("io") || vma.flags.has("pf"))) {
    return refuse("MAPPING_DEVICE", "it shows a device's own memory", "Stop the use of the device before the dump");
  }
  return undefined;
}
