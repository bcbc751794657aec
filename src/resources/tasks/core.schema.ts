/**
 * Image messages: task_core_entry, thread_sas_entry, thread_core_entry, task_rlimits_entry, core_entry, seccomp_mode.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../../images/codec/schema.js";
import { taskKobjIdsEntry } from "../../images/object-ids.schema.js";
import { saEntry } from "../signals/actions.schema.js";
import { signalQueueEntry } from "../signals/pending.schema.js";
import { taskTimersEntry } from "../timers/timers.schema.js";
import { threadInfoAarch64 } from "./core-aarch64.schema.js";
import { threadInfoArm } from "./core-arm.schema.js";
import { threadInfoLoongarch64 } from "./core-loongarch64.schema.js";
import { threadInfoMips } from "./core-mips.schema.js";
import { threadInfoPpc64 } from "./core-ppc64.schema.js";
import { threadInfoRiscv64 } from "./core-riscv64.schema.js";
import { threadInfoS390 } from "./core-s390.schema.js";
import { threadInfoX86 } from "./core-x86.schema.js";
import { credsEntry } from "./credentials.schema.js";
import { rlimitEntry } from "./limits.schema.js";
import { rseqEntry } from "./rseq.schema.js";

export const seccompMode = enumeration("seccomp_mode", {
  disabled: 0,
  strict: 1,
  filter: 2,
});

export const taskCoreEntry = message("task_core_entry", () => ({
  task_state: required.uint32(1, { dict: "task_state" }),
  exit_code: required.uint32(2),
  personality: required.uint32(3),
  flags: required.uint32(4),
  blk_sigset: required.uint64(5, { hex: true }),
  comm: required.string(6),
  timers: optional.message(7, () => taskTimersEntry, { alike: true }),
  rlimits: optional.message(8, () => taskRlimitsEntry, { alike: true }),
  cg_set: optional.uint32(9),
  signals_s: optional.message(10, () => signalQueueEntry),
  old_seccomp_mode: optional.enum(11, () => seccompMode),
  old_seccomp_filter: optional.uint32(12),
  loginuid: optional.uint32(13),
  oom_score_adj: optional.int32(14),
  sigactions: repeated.message(15, () => saEntry, { alike: true }),
  child_subreaper: optional.bool(18),
  blk_sigset_extended: optional.uint64(20, { hex: true }),
  stop_signo: optional.uint32(21),
  membarrier_registration_mask: optional.uint32(22, { hex: true }),
  coredump_filter: optional.uint32(1000, { floe: true, hex: true }),
  /** Of the autogroup of the session that the process leads. */
  autogroup_nice: optional.sint32(1001, { floe: true }),
  /** PR_SET_MDWE */
  mdwe: optional.uint32(1002, { floe: true }),
  memory_merge: optional.bool(1003, { floe: true }),
  /** Components of the vector state that the process may use, ARCH_GET_XCOMP_PERM. */
  xcomp_permissions: optional.uint64(1004, { floe: true, hex: true }),
  /** By which the parent is told of the end, where that is not SIGCHLD. */
  exit_signal: optional.uint32(1005, { floe: true }),
  /** The local descriptor table, as the processor has it: 8 bytes an entry. */
  segment_table: optional.bytes(1006, { floe: true }),
}));
export type TaskCoreEntry = Infer<typeof taskCoreEntry>;

export const threadSasEntry = message("thread_sas_entry", () => ({
  ss_sp: required.uint64(1),
  ss_size: required.uint64(2),
  ss_flags: required.uint32(3),
}));
export type ThreadSasEntry = Infer<typeof threadSasEntry>;

export const threadCoreEntry = message("thread_core_entry", () => ({
  futex_rla: required.uint64(1),
  futex_rla_len: required.uint32(2),
  sched_nice: optional.sint32(3),
  sched_policy: optional.uint32(4),
  sched_prio: optional.uint32(5),
  blk_sigset: optional.uint64(6),
  sas: optional.message(7, () => threadSasEntry),
  pdeath_sig: optional.uint32(8),
  signals_p: optional.message(9, () => signalQueueEntry),
  creds: optional.message(10, () => credsEntry, { alike: true }),
  seccomp_mode: optional.enum(11, () => seccompMode),
  seccomp_filter: optional.uint32(12),
  comm: optional.string(13),
  blk_sigset_extended: optional.uint64(14),
  rseq_entry: optional.message(15, () => rseqEntry),
  cg_set: optional.uint32(16),
  /** Of SCHED_DEADLINE; of the ordinary policies the time slice asked for. */
  sched_runtime_ns: optional.uint64(1000, { floe: true }),
  sched_deadline_ns: optional.uint64(1001, { floe: true }),
  sched_period_ns: optional.uint64(1002, { floe: true }),
  /** SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN */
  sched_flags: optional.uint32(1003, { floe: true }),
  sched_util_min: optional.uint32(1004, { floe: true }),
  sched_util_max: optional.uint32(1005, { floe: true }),
  /** Bits of processors, lowest first; empty: every processor. */
  cpu_affinity: optional.bytes(1006, { floe: true }),
  ioprio: optional.uint32(1007, { floe: true }),
  timer_slack_ns: optional.uint64(1008, { floe: true }),
  tsc_mode: optional.uint32(1009, { floe: true }),
  cpuid_faults: optional.bool(1010, { floe: true }),
  mce_kill: optional.uint32(1011, { floe: true }),
  io_flusher: optional.bool(1012, { floe: true }),
  /** PR_SPEC_… */
  spec_store_bypass: optional.uint32(1013, { floe: true }),
  spec_indirect_branch: optional.uint32(1014, { floe: true }),
  spec_l1d_flush: optional.uint32(1015, { floe: true }),
  /** Wait status of a first thread that has ended before the process. */
  ended_with: optional.uint32(1017, { floe: true }),
  user_dispatch: optional.message(1016, () => floeUserDispatchEntry, { floe: true }),
  /** Of a thread that has another one than the first. */
  personality: optional.uint32(1023, { floe: true, hex: true }),
  restart: optional.message(1022, () => floeRestartEntry, { floe: true }),
  /** set_mempolicy(2), and its nodes as the kernel has them. */
  memory_policy: optional.uint32(1020, { floe: true, hex: true }),
  memory_nodes: optional.bytes(1021, { floe: true }),
}));
/** A timed call that was interrupted: its number, and the time that was left; its arguments are in the registers. */
export const floeRestartEntry = message("floe_restart_entry", () => ({
  nr: required.uint32(1),
  left_ns: required.uint64(2),
}));
export type RestartEntry = Infer<typeof floeRestartEntry>;

/** Syscall user dispatch as PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG takes it. */
export const floeUserDispatchEntry = message("floe_user_dispatch_entry", () => ({
  selector: required.uint64(1, { hex: true }),
  offset: required.uint64(2, { hex: true }),
  len: required.uint64(3, { hex: true }),
}));
export type UserDispatchEntry = Infer<typeof floeUserDispatchEntry>;

export type ThreadCoreEntry = Infer<typeof threadCoreEntry>;

export const taskRlimitsEntry = message("task_rlimits_entry", () => ({
  rlimits: repeated.message(1, () => rlimitEntry),
}));
export type TaskRlimitsEntry = Infer<typeof taskRlimitsEntry>;

export const coreEntryMarch = enumeration("march", {
  UNKNOWN: 0,
  X86_64: 1,
  ARM: 2,
  AARCH64: 3,
  PPC64: 4,
  S390: 5,
  MIPS: 6,
  LOONGARCH64: 7,
  RISCV64: 8,
});

export const coreEntry = message("core_entry", () => ({
  mtype: required.enum(1, () => coreEntryMarch),
  thread_info: optional.message(2, () => threadInfoX86),
  ti_arm: optional.message(6, () => threadInfoArm),
  ti_aarch64: optional.message(8, () => threadInfoAarch64),
  ti_ppc64: optional.message(9, () => threadInfoPpc64),
  ti_s390: optional.message(10, () => threadInfoS390),
  ti_mips: optional.message(11, () => threadInfoMips),
  ti_loongarch64: optional.message(12, () => threadInfoLoongarch64),
  ti_riscv64: optional.message(13, () => threadInfoRiscv64),
  tc: optional.message(3, () => taskCoreEntry),
  ids: optional.message(4, () => taskKobjIdsEntry),
  thread_core: optional.message(5, () => threadCoreEntry),
}));
export type CoreEntry = Infer<typeof coreEntry>;

// Declared below this layer because the inventory has them as well; they are looked for here.
export { taskKobjIdsEntry, type TaskKobjIdsEntry } from "../../images/object-ids.schema.js";
