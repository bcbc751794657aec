/**
 * What /proc says about a frozen tree, and the sessions that parts work with.
 */
import { KernelError } from "../errors.js";
import type { Vma } from "../linux/proc/maps.js";
import { readRssBytes, readStat, readStatus } from "../linux/proc/read.js";
import { type KnownMappings, areMappingsReadFast, readMappingsAgain } from "../linux/vma-flags.js";
import type { DumpTask } from "../resources/part.js";
import { type KernelOrder, kernelIds } from "../resources/tasks/kernel-ids.js";
import { threadInfo } from "../resources/tasks/core-x86.js";
import type { CoreEntry } from "../resources/tasks/core.schema.js";
import { arch } from "../target/arch.js";
import { codeRanges, type CodeRanges } from "../target/code-ranges.js";
import type { FrozenTree } from "../target/freeze.js";
import type { TracedTask, TracedThread } from "../target/thread.js";

/** Task states of task_core_entry; the image format's own numbers. */
export const TASK_STATE = { ALIVE: 1, DEAD: 2, STOPPED: 3 } as const;
const MARCH_X86_64 = 1;
/** Every task stays in the control groups of whoever restores it (`root_cg_set` of the inventory). */
export const ROOT_CGROUP_SET = 1;
/** ids below this one are Floe's own (root_ids of the inventory). */
const FIRST_OBJECT_ID = 2;

/** A frozen task together with where code can lie in it. */
export interface CollectedTask extends DumpTask {
  readonly code: CodeRanges;
}

/** Mappings of processes a moment ago, by pid. */
export type LearntMappings = ReadonlyMap<number, KnownMappings>;

/** With more memory than this, smaps takes longer than taking it apart again does. */
const LITTLE_BYTES = 32 << 20;

/** Looks at mappings while the processes run: what has not changed by the freeze need not be taken apart there. */
export function learnMappings(pids: readonly number[]): LearntMappings {
  const learnt = new Map<number, KnownMappings>();
  for (const pid of pids) {
    try {
      if (areMappingsReadFast() || readRssBytes(pid) < LITTLE_BYTES) learnt.set(pid, readMappingsAgain(pid));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error; // it has ended
    }
  }
  return learnt;
}

/** Reads what belongs to each task as a whole; must come before the stub is put in, so that mappings are the task's own. */
export function collect(
  tree: FrozenTree,
  before: { order?: KernelOrder | undefined; mappings?: LearntMappings | undefined },
): CollectedTask[] {
  const ids = kernelIds(
    tree.tasks.map((t) => t.pid),
    FIRST_OBJECT_ID,
    before.order,
  );
  const sharers = new Map<number, number>();
  for (const { vm } of ids.values()) sharers.set(vm, (sharers.get(vm) ?? 0) + 1);
  return tree.tasks.map((traced) => {
    traced.hasOwnMemory = sharers.get(ids.get(traced.pid)?.vm ?? 0) === 1;
    const stat = readStat(traced.pid);
    const { vmas } = readMappingsAgain(traced.pid, before.mappings?.get(traced.pid));
    const code = codeRanges(traced.pid, vmas);
    const isOwn = (vma: Vma) => !code.leftBehind.some((left) => vma.start >= left.start && vma.end <= left.end);
    return {
      traced,
      pid: traced.nsPid,
      comm: traced.comm,
      stat,
      status: traced.status ?? readStatus(traced.pid),
      // What a killed dumper left behind is not the task's own.
      vmas: code.leftBehind.length === 0 ? vmas : vmas.filter(isOwn),
      code,
      core: emptyCore(traced.leader, true),
      ids: ids.get(traced.pid) ?? { vm: 0, files: 0, fs: 0, sighand: 0 },
    };
  });
}

/** A core message with what is known without running anything in the thread; the parts fill in the rest. */
export function emptyCore(thread: TracedThread, isLeader: boolean): CoreEntry {
  const core: CoreEntry = {
    mtype: MARCH_X86_64,
    thread_info: threadInfo(arch.resumeRegs(thread.regs, false)),
    thread_core: { futex_rla: 0n, futex_rla_len: 0, cg_set: ROOT_CGROUP_SET },
  };
  if (isLeader) {
    core.tc = {
      task_state: thread.stopSignal === 0 ? TASK_STATE.ALIVE : TASK_STATE.STOPPED,
      exit_code: 0,
      personality: 0,
      flags: 0,
      blk_sigset: thread.sigmask,
      comm: thread.task.comm,
      sigactions: [],
      ...(thread.stopSignal === 0 ? {} : { stop_signo: thread.stopSignal }),
    };
  } else if (core.thread_core !== undefined) core.thread_core.blk_sigset = thread.sigmask;
  return core;
}

export type { TracedTask };
