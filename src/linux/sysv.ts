/**
 * System V shared memory: shmget(2), shmat(2), shmctl(2), and /proc/sysvipc/shm, sysvipc(7). Whatever is asked here is asked of the
 * IPC namespace that the calling thread is in.
 *
 * Constants: uapi/linux/ipc.h, uapi/linux/shm.h.
 */
import { readFileSync } from "node:fs";
import { checked, kernelError } from "./errno.js";
import { syscall, syscallNumber } from "./ffi/native.unsafe.js";
import { bigDecimal, decimal, procTextError } from "./proc/text.js";
import { SYS } from "./syscalls.js";
import { IPC_RMID, IPC_SET, type Owner, asCreator, writeOwner } from "./sysv-objects.js";

export const SHM_HUGETLB = 0o4000;
export const SHM_NORESERVE = 0o10000;
export const SHM_RDONLY = 0o10000;
/** Bit of the mode: the segment goes with its last user. */
export const SHM_DEST = 0o1000;
export const SHM_LOCKED = 0o2000;
const SHM_LOCK = 11;
const DS_BYTES = 112; // struct shmid64_ds
const TABLE = "/proc/sysvipc/shm";

/** A segment of an IPC namespace. */
export interface Segment {
  readonly key: number;
  readonly id: number;
  /** Permission bits, SHM_DEST, SHM_LOCKED. */
  readonly mode: number;
  readonly sizeBytes: bigint;
  readonly attached: number;
  readonly uid: number;
  readonly gid: number;
  readonly cuid: number;
  readonly cgid: number;
}

/** All segments. */
export function readSegments(): Segment[] {
  const lines = readFileSync(TABLE, "latin1").split("\n").slice(1);
  return lines.filter((line) => line.trim() !== "").map(parseSegment);
}

/** A line: key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap. */
export function parseSegment(line: string): Segment {
  const [key = "", id = "", perms = "", size = "", , , attached = "", uid = "", gid = "", cuid = "", cgid = ""] = line.trim().split(/\s+/);
  const mode = Number.parseInt(perms, 8);
  if (cgid === "" || Number.isNaN(mode)) throw procTextError(TABLE, `it has the line "${line.slice(0, 100)}"`);
  return {
    key: Number(key) >>> 0,
    id: decimal(id, TABLE),
    mode,
    sizeBytes: bigDecimal(size, TABLE),
    attached: decimal(attached, TABLE),
    uid: decimal(uid, TABLE),
    gid: decimal(gid, TABLE),
    cuid: decimal(cuid, TABLE),
    cgid: decimal(cgid, TABLE),
  };
}

/** int shmget(key_t key, size_t size, int shmflg) — as user and group `as`, who become its creator. */
export function shmget(key: number, sizeBytes: bigint, options: { flags: number; as: { uid: number; gid: number } }): number {
  const { flags, as } = options;
  return asCreator(as, () =>
    checked(
      syscallNumber(SYS.shmget, key | 0, sizeBytes, flags),
      () => `shmget(0x${key.toString(16)}, ${sizeBytes}, 0${flags.toString(8)})`,
    ),
  );
}

/** void *shmat(int shmid, const void *shmaddr, int shmflg) — anywhere. */
export function shmat(id: number, flags: number): bigint {
  const got = BigInt(syscall(SYS.shmat, id, 0, flags));
  if (got < 0n && got >= -4095n) throw kernelError(`shmat(${id}, NULL, 0${flags.toString(8)})`, got);
  return got;
}

/** int shmdt(const void *shmaddr). */
export function shmdt(address: bigint): void {
  checked(syscallNumber(SYS.shmdt, address), () => `shmdt(0x${address.toString(16)})`);
}

/** shmctl(id, IPC_RMID) — the segment goes when nobody has it attached any more. */
export function removeSegment(id: number): void {
  checked(syscallNumber(SYS.shmctl, id, IPC_RMID, 0), () => `shmctl(${id}, IPC_RMID)`);
}

/** shmctl(id, IPC_SET) — owner and permission bits. */
export function setSegmentOwner(id: number, owner: Owner): void {
  const bytes = Buffer.alloc(DS_BYTES);
  writeOwner(bytes, owner);
  checked(syscallNumber(SYS.shmctl, id, IPC_SET, bytes), () => `shmctl(${id}, IPC_SET)`);
}

/** shmctl(id, SHM_LOCK) — its pages stay in memory. */
export function lockSegment(id: number): void {
  checked(syscallNumber(SYS.shmctl, id, SHM_LOCK, 0), () => `shmctl(${id}, SHM_LOCK)`);
}
