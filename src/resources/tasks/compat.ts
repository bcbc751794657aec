/**
 * What 32-bit programs (ia32) have of their own: thread-local segments, and signal actions and robust-futex lists that the
 * kernel keeps apart from those of 64-bit programs.
 *
 * Read from   PTRACE_GET_THREAD_AREA, get_robust_list(2) made as a 32-bit call
 * Refused     a process without its main thread: COMPAT_WITHOUT_LEADER
 * Made with   PTRACE_SET_THREAD_AREA; rt_sigaction(2) and set_robust_list(2) made as 32-bit calls inside the thread
 */
import { type ProcessName, Refusal } from "../../errors.js";
import { SYS32, getCompatRobustList } from "../../linux/compat.js";
import { ptraceGetThreadArea, ptraceSetThreadArea } from "../../linux/ptrace.js";
import { SYS } from "../../linux/syscalls.js";
import { writeTarget } from "../../target/run.js";
import { compatCall } from "../../target/x86_64/compat.js";
import type { ThreadPart } from "../part.js";
import { SIGNALS } from "../signals/actions.js";
import type { CoreEntry } from "./core.schema.js";
import type { UserDescT } from "./core-x86.schema.js";

const USER32_CS = 0x23n;
/** Slots of the global descriptor table that threads may fill (asm/segment.h: GDT_ENTRY_TLS_MIN and the two behind it). */
const TLS_SLOTS = [12, 13, 14];
const SIGSET_BYTES = 8;
const PAGE = 4096;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS_32BIT = 0x62;

/** Whether the thread runs 32-bit code. */
export function isCompat(core: CoreEntry): boolean {
  return core.thread_info?.gpregs.cs === USER32_CS;
}

/** struct user_desc: four words, the last one bits. */
function decodeDescriptor(bytes: Buffer): UserDescT {
  const bits = bytes.readUInt32LE(12);
  const has = (bit: number) => (bits & (1 << bit)) !== 0;
  return {
    entry_number: bytes.readUInt32LE(0),
    base_addr: bytes.readUInt32LE(4),
    limit: bytes.readUInt32LE(8),
    seg_32bit: has(0),
    contents_l: has(1),
    contents_h: has(2),
    read_exec_only: has(3),
    limit_in_pages: has(4),
    seg_not_present: has(5),
    usable: has(6),
  };
}

function encodeDescriptor(entry: UserDescT): Buffer {
  const bytes = Buffer.alloc(16);
  const { seg_32bit, contents_l, contents_h, read_exec_only, limit_in_pages, seg_not_present, usable } = entry;
  const flags = [seg_32bit, contents_l, contents_h, read_exec_only, limit_in_pages, seg_not_present, usable];
  bytes.writeUInt32LE(entry.entry_number, 0);
  bytes.writeUInt32LE(entry.base_addr, 4);
  bytes.writeUInt32LE(entry.limit, 8);
  bytes.writeUInt32LE(
    flags.reduce((bits, on, i) => (on ? bits | (1 << i) : bits), 0),
    12,
  );
  return bytes;
}

/** The handlers run on frames of 32-bit programs only if they were set by a 32-bit call. */
export const compatActions: ThreadPart = {
  name: "tasks/compat-actions",
  rows: ["cpu.compat32"],
  stage: "process",
  restore({ isLeader, program, core, thread }) {
    if (!isLeader || !isCompat(core)) return undefined;
    const room = program
      .call(SYS.mmap, 0, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_32BIT, -1, 0)
      .must("making room for signal actions");
    return () => {
      SIGNALS.forEach((signal, i) => {
        const action = core.tc?.sigactions[i];
        if (action === undefined) return;
        const bytes = Buffer.alloc(20);
        [action.sigaction, action.flags, action.restorer].forEach((word, at) => bytes.writeUInt32LE(Number(word & 0xffffffffn), at * 4));
        bytes.writeBigUInt64LE(action.mask, 12);
        writeTarget(thread, room.value, bytes);
        compatCall(thread, SYS32.rt_sigaction, [signal, room.value, 0, SIGSET_BYTES]);
      });
      compatCall(thread, SYS32.munmap, [room.value, PAGE]);
    };
  },
};

function withoutLeader(process: ProcessName): Refusal {
  return new Refusal({
    code: "COMPAT_WITHOUT_LEADER",
    process,
    resource: "its main thread",
    because: "it has ended, and of a 32-bit process nobody could tell any more that it is one",
    remedy: ["Keep the main thread alive, for example in pthread_join"],
  });
}

export const compatThread: ThreadPart = {
  name: "tasks/compat-thread",
  rows: ["cpu.compat32"],
  stage: "last",
  dump({ thread, core, task, session }) {
    if (!isCompat(core) || core.thread_info === undefined) return undefined;
    if (task.traced.hasLostLeader) session.refuse(withoutLeader({ pid: task.pid, comm: task.comm }));
    core.thread_info.tls = TLS_SLOTS.flatMap((slot) => {
      const found = ptraceGetThreadArea(thread.tid, slot);
      return found === undefined ? [] : [decodeDescriptor(found)];
    });
    const list = getCompatRobustList(thread.tid);
    return () => {
      if (core.thread_core === undefined || list === undefined) return;
      core.thread_core.futex_rla = list.head;
      core.thread_core.futex_rla_len = list.length;
    };
  },
  restore({ thread, core }) {
    if (!isCompat(core)) return undefined;
    return () => {
      for (const entry of core.thread_info?.tls ?? []) ptraceSetThreadArea(thread.tid, entry.entry_number, encodeDescriptor(entry));
      const { futex_rla, futex_rla_len } = core.thread_core ?? {};
      if (futex_rla !== undefined && futex_rla !== 0n) compatCall(thread, SYS32.set_robust_list, [futex_rla, futex_rla_len ?? 0]);
    };
  },
};
