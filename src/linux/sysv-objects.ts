/**
 * What System V shared memory, message queues and semaphores have in common, sysvipc(7).
 *
 * Constants: uapi/linux/ipc.h. The numbers that come next: proc_sys_kernel(5), since 3.8.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { decimal, procTextError } from "./proc/text.js";
import { SYS } from "./syscalls.js";

export const IPC_CREAT = 0o1000;
export const IPC_EXCL = 0o2000;
export const IPC_RMID = 0;
export const IPC_SET = 1;
export const IPC_NOWAIT = 0o4000;
/** struct ipc64_perm, with which every *_ds begins. */
export const PERM_BYTES = 48;
const KEEP = -1;

/** What IPC_SET sets. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** What every object has. */
export interface SysvObject extends Owner {
  readonly key: number;
  readonly id: number;
  readonly cuid: number;
  readonly cgid: number;
}

/** Into a *_ds: it begins with struct ipc64_perm: key, uid, gid, cuid, cgid, mode. */
export function writeOwner(bytes: Buffer, owner: Owner): void {
  bytes.writeUInt32LE(owner.uid, 4);
  bytes.writeUInt32LE(owner.gid, 8);
  bytes.writeUInt32LE(owner.mode, 20);
}

/** Makes the next object of a kind get number `id`, if its place is free; needs CAP_CHECKPOINT_RESTORE. */
export function setNextId(kind: "shm" | "msg" | "sem", id: number): void {
  writeFileSync(`/proc/sys/kernel/${kind}_next_id`, String(id));
}

/** Lines of a table of /proc/sysvipc, in columns. */
export function readTable(kind: "msg" | "sem"): string[][] {
  const lines = readFileSync(`/proc/sysvipc/${kind}`, "latin1").split("\n").slice(1);
  return lines.filter((line) => line.trim() !== "").map((line) => line.trim().split(/\s+/));
}

/** The columns that tell of {@link SysvObject}, in the order: key, number, mode, owner (two), creator (two). */
export function parseObject(table: string, columns: readonly (string | undefined)[]): SysvObject {
  const [key = "", id = "", perms = "", uid = "", gid = "", cuid = "", cgid = ""] = columns;
  const mode = Number.parseInt(perms, 8);
  if (cgid === "" || Number.isNaN(mode)) throw procTextError(table, `it has the line "${columns.join(" ").slice(0, 100)}"`);
  const [owner, group, creator, creatorGroup] = [uid, gid, cuid, cgid].map((text) => decimal(text, table)) as [
    number,
    number,
    number,
    number,
  ];
  return { key: Number(key) >>> 0, id: decimal(id, table), mode, uid: owner, gid: group, cuid: creator, cgid: creatorGroup };
}

/**
 * Makes something as this user and group, who become its creator.
 *
 * Identity is the thread's own below the C library, and comes back because real and saved ids stay.
 */
export function asCreator<T>(as: { readonly uid: number; readonly gid: number }, make: () => T): T {
  const own = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  const become = (id: { uid: number; gid: number }, order: "down" | "up") => {
    const steps = [
      () => checked(syscallNumber(SYS.setresgid, KEEP, id.gid, KEEP), () => `setresgid(-1, ${id.gid}, -1)`),
      () => checked(syscallNumber(SYS.setresuid, KEEP, id.uid, KEEP), () => `setresuid(-1, ${id.uid}, -1)`),
    ];
    for (const step of order === "down" ? steps : steps.reverse()) step();
  };
  if (as.uid === own.uid && as.gid === own.gid) return make();
  become(as, "down");
  try {
    return make();
  } finally {
    become(own, "up");
  }
}
