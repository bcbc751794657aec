/**
 * seccomp(2): strict mode and chains of filters.
 *
 * Read from   Seccomp in /proc/PID/task/TID/status; PTRACE_SECCOMP_GET_FILTER and PTRACE_SECCOMP_GET_METADATA
 * Made with   seccomp(2) inside the thread, while PTRACE_O_SUSPEND_SECCOMP keeps filters from acting
 * Refused     filters that ask a supervisor (SECCOMP_RET_USER_NOTIF): SECCOMP_SUPERVISED; a restorer that may not
 *             suspend filters: SECCOMP_NOT_SUSPENDED (on dump the freezer refuses this before it touches the thread)
 *
 * In the image a thread has the number of its oldest filter, and the `prev` of a filter is the number of the one installed
 * after it. The kernel does not tell which filters are the very same object; what all threads of a process have in common
 * is taken to be shared and installed before they are made, so that SECCOMP_FILTER_FLAG_TSYNC works afterwards.
 */
import { ImageError, type ProcessName, Refusal } from "../../errors.js";
import { readStatus } from "../../linux/proc/read.js";
import { PR_SET_SECCOMP } from "../../linux/prctl.js";
import {
  PTRACE_O_EXITKILL,
  PTRACE_O_SUSPEND_SECCOMP,
  PTRACE_O_TRACESYSGOOD,
  ptraceSeccompGetFilter,
  ptraceSeccompGetMetadata,
  ptraceSetOptions,
} from "../../linux/ptrace.js";
import {
  SECCOMP_FILTER_FLAG_LOG,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW,
  SECCOMP_FILTER_FLAG_TSYNC,
  SECCOMP_MODE_DISABLED,
  SECCOMP_MODE_FILTER,
  SECCOMP_MODE_STRICT,
  SECCOMP_SET_MODE_FILTER,
  SOCK_FILTER_BYTES,
  encodeSockFprog,
} from "../../linux/seccomp.js";
import { SYS } from "../../linux/syscalls.js";
import type { Program, Result } from "../../target/program.js";
import type { TracedThread } from "../../target/thread.js";
import type { DumpSession, DumpTask, Problem, RestoreSession, RestoreTask, ThreadPart } from "../part.js";
import type { CoreEntry, ThreadCoreEntry } from "../tasks/core.schema.js";
import { type SeccompFilter, seccompEntry } from "../tasks/seccomp.schema.js";

const CAP_SYS_ADMIN = 1n << 21n;
/** uapi/linux/bpf_common.h: BPF_RET | BPF_K; uapi/linux/seccomp.h: SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ACTION_FULL. */
const BPF_RET_K = 0x06;
const SECCOMP_RET_USER_NOTIF = 0x7fc0_0000;
const SECCOMP_RET_ACTION_FULL = 0xffff_0000;

/** The filters of a dump; equal ones that the same filters follow are one. */
class FilterTable {
  readonly filters: SeccompFilter[] = [];
  readonly #numbers = new Map<string, number>();

  /** Number of the filter `instructions`, after which filter `prev` was installed. */
  add(instructions: Buffer, flags: number, prev: number | undefined): number {
    const key = `${prev ?? ""}/${flags}/${instructions.toString("latin1")}`;
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const number = this.filters.length;
    this.filters.push({ filter: instructions, ...(prev === undefined ? {} : { prev }), ...(flags === 0 ? {} : { flags }) });
    this.#numbers.set(key, number);
    return number;
  }
}

const tables = new WeakMap<DumpSession, FilterTable>();

function tableOf(session: DumpSession): FilterTable {
  const table = tables.get(session) ?? new FilterTable();
  tables.set(session, table);
  return table;
}

interface ReadFilter {
  readonly filter: Buffer;
  readonly flags: number;
}

/** What a thread of a dumped process has, until all its threads have been asked. */
interface ThreadChain {
  readonly core: ThreadCoreEntry;
  readonly chain: readonly ReadFilter[];
}

const chains = new WeakMap<DumpTask, ThreadChain[]>();

/**
 * Enters the chains of a process into the table and its threads' messages.
 *
 * Equal chains of all threads are written as the peer writes them: only the leader has it, marked to be given to all.
 */
function saveChains(table: FilterTable, threads: readonly ThreadChain[], threadCount: number): void {
  const [leader] = threads;
  const isShared = threads.length === threadCount && threads.every(({ chain }) => isSameChain(chain, leader?.chain ?? []));
  for (const { core, chain } of isShared ? threads.slice(0, 1) : threads) {
    let number: number | undefined;
    for (const { filter, flags } of [...chain].reverse()) {
      number = table.add(filter, isShared ? flags | SECCOMP_FILTER_FLAG_TSYNC : flags, number);
    }
    core.seccomp_mode = SECCOMP_MODE_FILTER;
    if (number !== undefined) core.seccomp_filter = number;
  }
}

function isSameChain(a: readonly SeccompFilter[], b: readonly SeccompFilter[]): boolean {
  return a.length === b.length && a.every((filter, i) => isSame(filter, b[i]));
}

/** Filters of a stopped thread, oldest first. */
function readChain(thread: TracedThread): ReadFilter[] {
  const chain: ReadFilter[] = [];
  for (;;) {
    const filter = ptraceSeccompGetFilter(thread.tid, chain.length);
    if (filter === undefined) return chain;
    chain.push({ filter, flags: Number(ptraceSeccompGetMetadata(thread.tid, chain.length)) });
  }
}

function asksSupervisor(filter: Buffer): boolean {
  for (let at = 0; at < filter.length; at += SOCK_FILTER_BYTES) {
    const action = (filter.readUInt32LE(at + 4) & SECCOMP_RET_ACTION_FULL) >>> 0;
    if (filter.readUInt16LE(at) === BPF_RET_K && action === SECCOMP_RET_USER_NOTIF) return true;
  }
  return false;
}

function supervised(process: ProcessName, tid: number): Refusal {
  return new Refusal({
    code: "SECCOMP_SUPERVISED",
    process,
    resource: `the seccomp filter of thread ${tid}`,
    because: "it hands system calls to a supervisor through a descriptor that cannot be made again",
    remedy: ["Run the program without a seccomp supervisor (SECCOMP_RET_USER_NOTIF)"],
  });
}

/** Writes the filters that the threads had; called when all of them have been asked. */
export function writeFilters(session: DumpSession): void {
  session.images.append("SECCOMP", [], { type: seccompEntry, value: { seccomp_filters: tableOf(session).filters } });
}

/** A chain of the image, oldest filter first. */
function chainOf(oldest: number, filters: readonly SeccompFilter[], pid: number): SeccompFilter[] {
  const chain: SeccompFilter[] = [];
  for (let number: number | undefined = oldest; number !== undefined; ) {
    const filter: SeccompFilter | undefined = filters[number];
    if (filter === undefined || chain.length >= filters.length) throw badChain(pid, number);
    chain.push(filter);
    number = filter.prev;
  }
  return chain;
}

function badChain(pid: number, number: number): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_REFERENCE",
    place: { file: "seccomp.img", message: "seccomp_filter", field: "prev" },
    because: `process ${pid} has the seccomp filter ${number}, which is not there or leads back to itself`,
    remedy: ["Use an intact copy of the images directory", "Dump the process again"],
  });
}

/** What a thread had. Images of old versions say it of the process only. */
interface SavedMode {
  readonly mode: number;
  readonly chain: readonly SeccompFilter[];
}

function savedMode(task: RestoreTask, core: CoreEntry, session: RestoreSession): SavedMode {
  const { tc } = task.core;
  const mode = core.thread_core?.seccomp_mode ?? tc?.old_seccomp_mode ?? SECCOMP_MODE_DISABLED;
  if (mode === SECCOMP_MODE_DISABLED && core !== task.core) {
    const leader = savedMode(task, task.core, session);
    return leader.chain.some(({ flags }) => ((flags ?? 0) & SECCOMP_FILTER_FLAG_TSYNC) !== 0) ? leader : { mode, chain: [] };
  }
  if (mode !== SECCOMP_MODE_FILTER) return { mode, chain: [] };
  const oldest = core.thread_core?.seccomp_filter ?? tc?.old_seccomp_filter ?? 0;
  return { mode, chain: chainOf(oldest, filtersOf(session), task.pid) };
}

const loaded = new WeakMap<RestoreSession, SeccompFilter[]>();

function filtersOf(session: RestoreSession): SeccompFilter[] {
  let filters = loaded.get(session);
  if (filters === undefined) {
    filters = session.images.exists("SECCOMP", []) ? session.images.single("SECCOMP", [], seccompEntry).seccomp_filters : [];
    loaded.set(session, filters);
  }
  return filters;
}

function isSame(a: SeccompFilter | undefined, b: SeccompFilter | undefined): boolean {
  const kept = (filter: SeccompFilter) => (filter.flags ?? 0) & KEPT_FLAGS;
  return a !== undefined && b !== undefined && kept(a) === kept(b) && Buffer.compare(a.filter, b.filter) === 0;
}

const common = new WeakMap<RestoreTask, number>();

/** How many filters, from the oldest on, all threads of a process have in common. */
function commonFilters(task: RestoreTask, session: RestoreSession): number {
  let count = common.get(task);
  if (count === undefined) {
    count = countCommon(task, session);
    common.set(task, count);
  }
  return count;
}

function countCommon(task: RestoreTask, session: RestoreSession): number {
  const [first, ...others] = task.threads.map(({ core }) => savedMode(task, core, session).chain);
  if (first === undefined) return 0;
  let count = first.length;
  for (const chain of others) {
    let same = 0;
    while (same < count && isSame(chain[same], first[same])) same++;
    count = same;
  }
  return count;
}

/** More bytes than this do not fit beside a program into the memory of a thread that is not the leader. */
const MOST_INLINE_BYTES = 4096;
const PROT_READ = 1;
const MAP_PRIVATE = 2;
/** What the image may say of a filter and what has a meaning when it is installed again. */
const KEPT_FLAGS = SECCOMP_FILTER_FLAG_LOG;

function install(program: Program, filters: readonly SeccompFilter[], extraFlags: number): void {
  for (const { filter, flags } of filters) {
    const fprog = program.bytes(encodeSockFprog(filter.length / SOCK_FILTER_BYTES, 0n));
    const setFilter = () =>
      program
        .call(SYS.seccomp, SECCOMP_SET_MODE_FILTER, ((flags ?? 0) & KEPT_FLAGS) | extraFlags, fprog)
        .must("installing a seccomp filter");
    if (filter.length <= MOST_INLINE_BYTES) {
      program.storeAddress(fprog.at(8), program.bytes(filter));
      setFilter();
    } else
      withMapped(program, filter, (address) => {
        program.store(fprog.at(8), address);
        setFilter();
      });
  }
}

/** Puts `content` piece by piece into memory of the thread's process for the calls that `use` adds. */
function withMapped(program: Program, content: Uint8Array, use: (address: Result) => void): void {
  const fd = program.call(SYS.memfd_create, program.cstring("filter"), 0).must("making room for a seccomp filter");
  for (let at = 0; at < content.length; at += MOST_INLINE_BYTES) {
    const piece = content.subarray(at, at + MOST_INLINE_BYTES);
    program.call(SYS.write, fd, program.bytes(piece), piece.length).must();
  }
  const address = program.call(SYS.mmap, 0, content.length, PROT_READ, MAP_PRIVATE, fd, 0).must("making room for a seccomp filter");
  program.call(SYS.close, fd).must();
  use(address);
  program.call(SYS.munmap, address, content.length).must();
}

/** The mitigations of speculation that filters switch on were saved for themselves, where they were saved. */
function speculationFlag(core: CoreEntry): number {
  return core.thread_core?.timer_slack_ns === undefined ? 0 : SECCOMP_FILTER_FLAG_SPEC_ALLOW;
}

function hasSeccomp(task: RestoreTask, session: RestoreSession): boolean {
  return task.threads.some(({ core }) => savedMode(task, core, session).mode !== SECCOMP_MODE_DISABLED);
}

/** Filters that all threads of a process share; threads made from here on cannot be hit by any. */
export const sharedSeccomp: ThreadPart = {
  name: "security/seccomp-shared",
  rows: ["cred.seccomp-filter"],
  stage: "process",

  check(task, session) {
    try {
      if (!hasSeccomp(task, session) || maySuspend()) return [];
    } catch (error) {
      if (error instanceof ImageError) return [error];
      throw error;
    }
    return [notSuspended(task)];
  },

  restore({ session, task, thread, program, core }) {
    if (!hasSeccomp(task, session)) return undefined;
    ptraceSetOptions(thread.tid, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP);
    install(program, savedMode(task, core, session).chain.slice(0, commonFilters(task, session)), speculationFlag(core));
    return undefined;
  },
};

/** Comes before the credentials: without them a filter may be installed only by a thread with no_new_privs. */
export const seccomp: ThreadPart = {
  name: "security/seccomp",
  rows: ["cred.seccomp-strict", "cred.seccomp-filter"],
  stage: "last",

  dump({ session, task, thread, status, core }) {
    const mode = status.seccomp;
    if (mode === SECCOMP_MODE_DISABLED || core.thread_core === undefined) return undefined;
    if (mode !== SECCOMP_MODE_FILTER) {
      core.thread_core.seccomp_mode = mode;
      return undefined;
    }
    const chain = readChain(thread);
    if (chain.some(({ filter }) => asksSupervisor(filter))) session.refuse(supervised({ pid: task.pid, comm: task.comm }, thread.nsTid));
    chains.set(task, [...(chains.get(task) ?? []), { core: core.thread_core, chain }]);
    return () => {
      const all = chains.get(task);
      chains.delete(task);
      // Once for each process, when every thread has been looked at.
      if (all !== undefined) saveChains(tableOf(session), all, task.traced.threads.length);
    };
  },

  restore({ session, task, program, core }) {
    const { mode, chain } = savedMode(task, core, session);
    if (mode === SECCOMP_MODE_STRICT)
      program.call(SYS.prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0).must("entering strict seccomp mode");
    if (chain.length > 0) install(program, chain.slice(commonFilters(task, session)), speculationFlag(core));
    return undefined;
  },
};

/** The kernel asks for CAP_SYS_ADMIN, and that we are under no filter ourselves. */
function maySuspend(): boolean {
  const own = readStatus(process.pid);
  return own.seccomp === SECCOMP_MODE_DISABLED && (own.capEff & CAP_SYS_ADMIN) !== 0n;
}

function notSuspended(task: RestoreTask): Problem {
  return new Refusal(
    {
      code: "SECCOMP_NOT_SUSPENDED",
      process: { pid: task.pid, comm: task.comm },
      resource: "its seccomp filters",
      because: "they have to be kept from acting while it is made, for which Floe needs CAP_SYS_ADMIN and must be under no filter itself",
      remedy: ["Restore as root outside of any seccomp filter"],
    },
    "restore",
  );
}
