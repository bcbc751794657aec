/**
 * Limits of an IPC namespace: System V objects and POSIX message queues.
 *
 * Read from   /proc/sys/kernel and /proc/sys/fs/mqueue, proc_sys_kernel(5), mq_overview(7)
 * Made with   the same, when all objects are there: they may be more than is allowed now
 */
import { readLimit, writeLimit } from "../../linux/ipc-limits.js";
import type { DumpSession, RestoreSession } from "../part.js";
import { ipcId, savedIpcIds } from "./namespace.js";
import { type IpcVarEntry, ipcVarEntry } from "./sysctl.schema.js";

/** Files below /proc/sys of one number each. */
const FILES = {
  msg_ctlmax: "kernel/msgmax",
  msg_ctlmnb: "kernel/msgmnb",
  msg_ctlmni: "kernel/msgmni",
  auto_msgmni: "kernel/auto_msgmni",
  shm_ctlmax: "kernel/shmmax",
  shm_ctlall: "kernel/shmall",
  shm_ctlmni: "kernel/shmmni",
  shm_rmid_forced: "kernel/shm_rmid_forced",
  mq_queues_max: "fs/mqueue/queues_max",
  mq_msg_max: "fs/mqueue/msg_max",
  mq_msgsize_max: "fs/mqueue/msgsize_max",
  mq_msg_default: "fs/mqueue/msg_default",
  mq_msgsize_default: "fs/mqueue/msgsize_default",
  msg_next_id: "kernel/msg_next_id",
  sem_next_id: "kernel/sem_next_id",
  shm_next_id: "kernel/shm_next_id",
} as const satisfies Partial<Record<keyof IpcVarEntry, string>>;

const SEMAPHORES = "kernel/sem";
const WIDE = ["shm_ctlmax", "shm_ctlall"];
/** Of the number that the next object gets: whichever. */
const NO_NUMBER = -1n;
const U32 = 0xffff_ffff;
/** As much as may be while objects are made. */
const PLENTY: readonly (readonly [string, readonly bigint[]])[] = [
  [SEMAPHORES, [32000n, 1024000000n, 500n, 32000n]],
  ["kernel/msgmax", [0x7fffffffn]],
  ["kernel/msgmnb", [0x7fffffffn]],
  ["kernel/msgmni", [32000n]],
  ["kernel/shmmni", [32768n]],
];

/** Saves the limits. Called inside of the namespace. */
export function dumpLimits(session: DumpSession): void {
  const value: Record<string, unknown> = { sem_ctls: (readLimit(SEMAPHORES) ?? []).map(Number) };
  for (const [field, file] of Object.entries(FILES)) {
    const [limit] = readLimit(file) ?? [];
    if (field.endsWith("_next_id")) {
      if (limit !== undefined && limit !== NO_NUMBER) value[field] = Number(limit);
    } else value[field] = WIDE.includes(field) ? (limit ?? 0n) : Number(limit ?? 0n);
  }
  const id = ipcId(session);
  session.later(() => session.images.append("IPC_VAR", [id], { type: ipcVarEntry, value: value as IpcVarEntry }));
}

/** Takes limits out of the way of what is about to be made. Called inside of the namespace. */
export function liftLimits(): void {
  for (const [file, values] of PLENTY) writeLimit(file, values);
}

/** What the images say of limits. */
export function savedLimits(session: RestoreSession): IpcVarEntry[] {
  return savedIpcIds(session).flatMap((id) => session.images.records("IPC_VAR", [id], ipcVarEntry).map(({ value }) => value));
}

/** Called inside of the namespace, when the tasks have attached their segments: one of the limits destroys those that nobody has. */
export function restoreLimits(session: RestoreSession): void {
  for (const value of savedLimits(session)) {
    if (value.sem_ctls.length > 0) writeLimit(SEMAPHORES, value.sem_ctls.map(BigInt));
    for (const [field, file] of Object.entries(FILES)) {
      const limit = value[field as keyof typeof FILES];
      if (limit === undefined || (field.endsWith("_next_id") && limit === U32)) continue;
      // Not every kernel has all of them.
      if (readLimit(file) !== undefined) writeLimit(file, [BigInt(limit)]);
    }
  }
}
