/**
 * Shadow stacks (CET): whether a thread has one, its pointer, what it may do with it.
 *
 * Read from   arch_prctl(ARCH_SHSTK_STATUS) inside, PTRACE_GETREGSET(NT_X86_SHSTK); `ss` in smaps
 * Made with   map_shadow_stack(2), arch_prctl(ARCH_SHSTK_ENABLE) inside, PTRACE_SETREGSET(NT_X86_SHSTK); contents through /proc/PID/mem
 * Refused     where processor or kernel have none: SHADOW_STACK_ABSENT
 *
 * Built to the kernel's documentation: no machine with them was at hand, so nothing of it has run. Enabling gives a thread a stack
 * of the kernel's choice, which stays mapped beside its own: the kernel unmaps it when the thread ends, so it must not be another's.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { ptraceGetRegset, ptraceSetRegset } from "../../linux/ptrace.js";
import {
  ARCH_SHSTK_ENABLE,
  ARCH_SHSTK_SHSTK,
  ARCH_SHSTK_STATUS,
  ARCH_SHSTK_WRSS,
  NT_X86_SHSTK,
  hasShadowStacks,
} from "../../linux/shadow-stack.js";
import { SYS } from "../../linux/syscalls.js";
import { AREA } from "../memory/area.js";
import { without } from "../memory/inherit.js";
import { intersection } from "../memory/page-ranges.js";
import { type StoredRun, readPages } from "../memory/page-source.js";
import type { VmaEntry } from "../memory/vma.schema.js";
import type { ThreadPart } from "../part.js";
import type { UserX86CetEntry } from "./core-x86.schema.js";
import type { CoreEntry } from "./core.schema.js";

const read = new WeakMap<CoreEntry, UserX86CetEntry>();

/** What was read of a thread's shadow stack, for the message about its vector registers. */
export function shadowStackOf(core: CoreEntry): UserX86CetEntry | undefined {
  return read.get(core);
}

function saved(core: CoreEntry): UserX86CetEntry | undefined {
  const cet = core.thread_info?.fpregs.xsave?.cet;
  return cet === undefined || cet.cet === 0n ? undefined : cet;
}

export const shadowStack: ThreadPart = {
  name: "tasks/shadow-stack",
  rows: ["cpu.shstk"],
  stage: "last",
  uniform: "now",

  dump({ program, thread, core }) {
    if (!hasShadowStacks()) return undefined;
    const memory = program.buffer(8);
    const asked = program.call(SYS.arch_prctl, ARCH_SHSTK_STATUS, memory);
    return () => {
      const cet = memory.bytes().readBigUInt64LE(0);
      if (asked.errno !== 0 || (cet & ARCH_SHSTK_SHSTK) === 0n) return;
      const pointer = Buffer.alloc(8);
      ptraceGetRegset(thread.tid, NT_X86_SHSTK, pointer);
      read.set(core, { cet, ssp: pointer.readBigUInt64LE(0) });
    };
  },

  check(task) {
    if (hasShadowStacks() || !task.threads.some(({ core }) => saved(core) !== undefined)) return [];
    return [
      new Refusal(
        {
          code: "SHADOW_STACK_ABSENT",
          process: { pid: task.pid, comm: task.comm },
          resource: "its shadow stacks",
          because: "this processor or kernel has none",
          remedy: ["Restore on a machine with user shadow stacks (user_shstk in /proc/cpuinfo)"],
        },
        "restore",
      ),
    ];
  },

  restore({ program, thread, core }) {
    const cet = saved(core);
    if (cet === undefined) return undefined;
    for (const feature of [ARCH_SHSTK_SHSTK, ARCH_SHSTK_WRSS])
      if (cet.cet & feature) program.call(SYS.arch_prctl, ARCH_SHSTK_ENABLE, feature).must("switching the shadow stack on");
    return () => {
      const pointer = Buffer.alloc(8);
      pointer.writeBigUInt64LE(cet.ssp, 0);
      ptraceSetRegset(thread.tid, NT_X86_SHSTK, pointer);
    };
  },
};

/** Runs parted into those of shadow stacks, to which a process cannot read anything, and all others. */
export function partShadowStacks(
  runs: readonly StoredRun[],
  vmas: readonly VmaEntry[],
): { shadow: StoredRun[]; others: readonly StoredRun[] } {
  const areas = vmas.filter((vma) => vma.status & AREA.SHSTK);
  if (areas.length === 0) return { shadow: [], others: runs };
  const shadow = runs.flatMap((run) =>
    intersection([run], areas).map(({ start, end }) => ({ ...run, start, end, offset: run.offset + (start - run.start) })),
  );
  return { shadow, others: without(runs, areas) };
}

const PIECE = 1 << 16;

/** Writes the contents of shadow stacks from outside. */
export function fillShadowStacks(pid: number, runs: readonly StoredRun[]): void {
  if (runs.length === 0) return;
  const memory = openSync(`/proc/${pid}/mem`, "r+");
  try {
    for (const run of runs) {
      for (let at = run.start; at < run.end; ) {
        const piece = Buffer.alloc(Math.min(PIECE, Number(run.end - at)));
        readPages(run, at, piece);
        writeSync(memory, piece, 0, piece.length, Number(at));
        at += BigInt(piece.length);
      }
    }
  } finally {
    closeSync(memory);
  }
}
