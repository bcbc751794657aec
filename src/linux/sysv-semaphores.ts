/**
 * System V semaphores: semget(2), semctl(2), and /proc/sysvipc/sem.
 *
 * Constants: uapi/linux/ipc.h, uapi/linux/sem.h. Of the IPC namespace that the calling thread is in.
 */
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { decimal } from "./proc/text.js";
import { SYS } from "./syscalls.js";
import {
  IPC_CREAT,
  IPC_EXCL,
  IPC_SET,
  type Owner,
  type SysvObject,
  asCreator,
  parseObject,
  readTable,
  writeOwner,
} from "./sysv-objects.js";

export const SEM_UNDO = 0x1000;
/** The most that a semaphore can be (SEMVMX). */
export const MOST_VALUE = 32767;
const GETALL = 13;
const SETALL = 17;
const VALUE_BYTES = 2;
const DS_BYTES = 104; // struct semid64_ds
const TABLE = "/proc/sysvipc/sem";

export interface SemaphoreSet extends SysvObject {
  readonly semaphores: number;
}

/** All sets. */
export function readSemaphoreSets(): SemaphoreSet[] {
  return readTable("sem").map(parseSemaphoreSet);
}

/** A line: key semid perms nsems uid gid cuid cgid otime ctime. */
export function parseSemaphoreSet([key, id, perms, semaphores = "", ...owners]: readonly string[]): SemaphoreSet {
  return { ...parseObject(TABLE, [key, id, perms, ...owners.slice(0, 4)]), semaphores: decimal(semaphores, TABLE) };
}

/** semctl(id, 0, GETALL) — the values, two bytes each. */
export function readSemaphores(id: number, semaphores: number): Buffer {
  const values = Buffer.alloc(semaphores * VALUE_BYTES);
  checked(syscallNumber(SYS.semctl, id, 0, GETALL, values), () => `semctl(${id}, 0, GETALL)`);
  return values;
}

/** semctl(id, 0, SETALL) — also forgets whatever is to be undone for any process. */
export function writeSemaphores(id: number, values: Uint8Array): void {
  checked(syscallNumber(SYS.semctl, id, 0, SETALL, values), () => `semctl(${id}, 0, SETALL)`);
}

/** int semget(key_t key, int nsems, int semflg) — a new set, made by user and group `as`. */
export function makeSemaphoreSet(key: number, semaphores: number, options: { mode: number; as: { uid: number; gid: number } }): number {
  const flags = IPC_CREAT | IPC_EXCL | options.mode;
  return asCreator(options.as, () =>
    checked(
      syscallNumber(SYS.semget, key | 0, semaphores, flags),
      () => `semget(0x${key.toString(16)}, ${semaphores}, 0${flags.toString(8)})`,
    ),
  );
}

/** semctl(id, 0, IPC_SET) — owner and permission bits. */
export function setSemaphoreOwner(id: number, owner: Owner): void {
  const bytes = Buffer.alloc(DS_BYTES);
  writeOwner(bytes, owner);
  checked(syscallNumber(SYS.semctl, id, 0, IPC_SET, bytes), () => `semctl(${id}, 0, IPC_SET)`);
}
