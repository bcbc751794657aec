/**
 * Locks on files and leases: POSIX (by process), flock and OFD (by open file description), leases.
 *
 * Read from   the `lock:` lines of /proc/PID/fdinfo/N
 * Made with   fcntl(F_SETLK), flock(2), fcntl(F_OFD_SETLK), fcntl(F_SETLEASE) inside a holder
 * Refused     without --file-locks: only the user can know that nobody takes a lock while the process is gone
 *
 * A lease that is being broken gets its state back by an attempt to open the file, which fails at once. Such an attempt
 * would also be what breaks a lease in a dump, so files under a lease for writing are not opened there.
 */
import { type BigIntStats, closeSync } from "node:fs";
import { ImageError, KernelError, Refusal } from "../../errors.js";
import { taskKobjIdsEntry } from "../../images/object-ids.schema.js";
import { ERRNO } from "../../linux/errno.js";
import {
  F_OFD_SETLK,
  F_OWNER_PID,
  F_RDLCK,
  F_SETLEASE,
  F_SETLK,
  F_SETOWN_EX,
  F_UNLCK,
  F_WRLCK,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  encodeFlock,
} from "../../linux/fcntl.js";
import { AT_FDCWD, O_ACCMODE, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_WRONLY, openat } from "../../linux/files.js";
import { type FdInfo, fdInfoLocks } from "../../linux/proc/fdinfo.js";
import type { FileLock } from "../../linux/proc/locks.js";
import { SYS } from "../../linux/syscalls.js";
import type { Program } from "../../target/program.js";
import type { DumpSession, DumpTask, RestoreSession, RestoreTask, ThreadPart } from "../part.js";
import { type FileLockEntry, fileLockEntry } from "./locks.schema.js";
import { fdinfoEntry } from "./table.schema.js";

/** file_lock_entry.flag */
const KIND = { POSIX: 1, FLOCK: 2, OFDLCK: 4, LEASE: 8 } as const;
/** file_lock_entry.type of a lease being broken: this bit, and what it is to become. */
const BREAKING = 4;
const TYPES: Readonly<Record<string, number>> = { READ: F_RDLCK, WRITE: F_WRLCK, UNLCK: F_UNLCK };

/** A lock, with all who hold it under some descriptor. */
interface Found {
  readonly lock: FileLock;
  readonly link: string;
  readonly holders: { readonly task: DumpTask; readonly fd: number }[];
}

interface Locks {
  readonly found: Map<string, Found>;
  /** Files under a lease that conflicts with reading, by device and inode. */
  readonly leased: Set<string>;
}

const ofSession = new WeakMap<DumpSession, Locks>();

function locksOf(session: DumpSession): Locks {
  const locks = ofSession.get(session) ?? { found: new Map<string, Found>(), leased: new Set<string>() };
  ofSession.set(session, locks);
  return locks;
}

/** Notes what an fdinfo says of locks. `id`: of the open file, to tell descriptions apart. */
export function noteLocks(at: { task: DumpTask; fd: number; id: number; info: FdInfo; link: string }, session: DumpSession): void {
  for (const lock of fdInfoLocks(at.info)) {
    const { found } = locksOf(session);
    // A POSIX lock belongs to the table of descriptors, all others to the description.
    const owner = lock.kind === "POSIX" ? `table ${at.task.ids.files} ${lock.devMajor}:${lock.devMinor}:${lock.inode}` : `file ${at.id}`;
    const key = `${lock.kind} ${owner} ${lock.start}-${lock.end}`;
    const known = found.get(key);
    const holder = { task: at.task, fd: at.fd };
    if (known === undefined) found.set(key, { lock, link: at.link, holders: [holder] });
    else known.holders.push(holder);
  }
}

/** Notes that a file must not be opened because of a lease; asked again by {@link isLeased}. */
export function noteLease(info: FdInfo, stat: BigIntStats, session: DumpSession): void {
  const leases = fdInfoLocks(info).filter((lock) => lock.kind === "LEASE");
  if (leases.some((lock) => lock.type === "WRITE" || lock.state !== "ACTIVE")) locksOf(session).leased.add(`${stat.dev}/${stat.ino}`);
}

/** Whether opening the file, even for reading, would break a lease, and wait for that. */
export function isLeased(stat: BigIntStats, session: DumpSession): boolean {
  const { leased } = locksOf(session);
  return leased.size > 0 && leased.has(`${stat.dev}/${stat.ino}`);
}

/** Writes filelocks.img, or refuses every lock without --file-locks. */
export function dumpLocks(session: DumpSession): void {
  for (const { lock, link, holders } of locksOf(session).found.values()) {
    // Who took it is what the kernel goes on showing; a descendant may be all that is left.
    const holder = holders.find((h) => h.task.traced.pid === lock.pid) ?? holders[0];
    const flag = KIND[lock.kind as keyof typeof KIND];
    const type = TYPES[lock.type];
    if (holder === undefined) continue;
    if (flag === undefined || type === undefined) session.refuse(unknownLock(lock, link, holder));
    else if (!session.options.fileLocks) session.refuse(notAllowed(lock, link, holder));
    else {
      const len = lock.end === undefined ? 0n : lock.end - lock.start + 1n;
      const breaking = flag === KIND.LEASE && lock.state !== "ACTIVE" ? BREAKING : 0;
      const value: FileLockEntry = { flag, type: type | breaking, pid: holder.task.pid, fd: holder.fd, start: lock.start, len };
      session.images.append("FILE_LOCKS", [], { type: fileLockEntry, value });
    }
  }
}

type Holder = Found["holders"][number];

function describe(lock: FileLock, link: string, { fd }: Holder): string {
  const range = lock.end === undefined && lock.start === 0n ? "the whole file" : `bytes ${lock.start} to ${lock.end ?? "the end"}`;
  const what = lock.kind === "LEASE" ? "lease" : `${lock.kind === "OFDLCK" ? "open-file-description" : lock.kind} lock`;
  return `fd ${fd}, a ${what} (${lock.type.toLowerCase()}) on ${range} of "${link}"`;
}

function processOf({ task }: Holder) {
  return { pid: task.traced.pid, comm: task.comm };
}

function notAllowed(lock: FileLock, link: string, holder: Holder): Refusal {
  return new Refusal({
    code: "FILE_LOCK",
    process: processOf(holder),
    resource: describe(lock, link, holder),
    because: "locks are free for anybody to take while the process is gone, and carrying them was not asked for",
    remedy: ["Carry locks and leases with --file-locks", "Let the program release the lock first"],
  });
}

function unknownLock(lock: FileLock, link: string, holder: Holder): Refusal {
  return new Refusal({
    code: "FILE_LOCK_UNSUPPORTED",
    process: processOf(holder),
    resource: describe(lock, link, holder),
    because: `locks of class ${lock.kind} (${lock.type}) are not carried`,
    remedy: ["Let the program release the lock first"],
  });
}

const savedLocks = new WeakMap<RestoreSession, readonly FileLockEntry[]>();

function locksIn(session: RestoreSession): readonly FileLockEntry[] {
  const found = savedLocks.get(session) ?? session.images.records("FILE_LOCKS", [], fileLockEntry).map((r) => r.value);
  savedLocks.set(session, found);
  return found;
}

/** Takes every lock again, in the process that held it; owners of signals are set later. */
export const fileLocks: ThreadPart = {
  name: "files/locks",
  rows: ["file.locks", "file.locks-ofd", "file.leases"],
  stage: "process",
  restore({ session, task, program }) {
    const broken: FileLockEntry[] = [];
    for (const entry of locksIn(session).filter((e) => e.pid === task.pid)) {
      takeLock(entry, { task, session, program });
      if (entry.flag === KIND.LEASE && entry.type & BREAKING) broken.push(entry);
    }
    if (broken.length === 0) return undefined;
    return () => {
      for (const entry of broken) breakLease(entry, openFileOf(entry, task, session));
    };
  },
  check(task, session) {
    return locksIn(session)
      .filter((e) => e.pid === task.pid)
      .flatMap((entry) => {
        const known =
          entry.flag === KIND.LEASE
            ? (entry.type & ~BREAKING) <= F_UNLCK
            : entry.type <= F_WRLCK && Object.values(KIND).some((k) => k === entry.flag);
        if (!known) return [badLock(`lock of kind ${entry.flag} and type ${entry.type} is unknown`)];
        return fileIdOf(entry, task, session) === undefined ? [badLock(`process ${entry.pid} has no descriptor ${entry.fd} to lock`)] : [];
      });
  },
};

function badLock(because: string): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_REFERENCE",
    place: { file: "filelocks.img", message: "file_lock_entry" },
    because,
    remedy: ["Dump the process again"],
  });
}

function fileIdOf(entry: FileLockEntry, task: RestoreTask, session: RestoreSession): number | undefined {
  const ids = task.core.ids ?? session.images.single("IDS", [task.pid], taskKobjIdsEntry);
  return session.images.records("FDINFO", [ids.files_id], fdinfoEntry).find((r) => r.value.fd === entry.fd)?.value.id;
}

function openFileOf(entry: FileLockEntry, task: RestoreTask, session: RestoreSession): { fd: number; flags: number } {
  const id = fileIdOf(entry, task, session) ?? 0;
  return { fd: session.file(id), flags: session.fileEntry(id)?.reg?.flags ?? 0 };
}

function takeLock(entry: FileLockEntry, on: { task: RestoreTask; session: RestoreSession; program: Program }): void {
  const { program } = on;
  const { fd, type } = entry;
  if (entry.flag === KIND.FLOCK) {
    program.call(SYS.flock, fd, (type === F_RDLCK ? LOCK_SH : LOCK_EX) | LOCK_NB).must(`locking the file at fd ${fd}`);
  } else if (entry.flag === KIND.LEASE) {
    program
      .call(SYS.fcntl, fd, F_SETLEASE, leaseToTake(entry, openFileOf(entry, on.task, on.session).flags))
      .must(`taking a lease on the file at fd ${fd}`);
    // The kernel makes the process the owner: nobody is to be told of the breaking that follows, they know already.
    const nobody = Buffer.alloc(8);
    nobody.writeInt32LE(F_OWNER_PID, 0);
    program.call(SYS.fcntl, fd, F_SETOWN_EX, program.bytes(nobody)).must("clearing the owner of a lease");
  } else {
    const range = encodeFlock({ type, start: entry.start, sizeBytes: entry.len, pid: 0 });
    program
      .call(SYS.fcntl, fd, entry.flag === KIND.OFDLCK ? F_OFD_SETLK : F_SETLK, program.bytes(range))
      .must(`locking bytes ${entry.start}… of the file at fd ${fd}`);
  }
}

/** What a lease was before somebody began to break it. The kernel does not say; one for reading needs a file open for reading only. */
function leaseToTake({ type }: FileLockEntry, flags: number): number {
  if ((type & BREAKING) === 0) return type;
  return (type & ~BREAKING) === F_UNLCK && (flags & O_ACCMODE) === O_RDONLY ? F_RDLCK : F_WRLCK;
}

function breakLease(entry: FileLockEntry, { fd }: { fd: number }): void {
  const wanted = (entry.type & ~BREAKING) === F_UNLCK ? O_WRONLY : O_RDONLY;
  try {
    closeSync(openat(AT_FDCWD, `/proc/self/fd/${fd}`, { flags: wanted | O_NONBLOCK | O_CLOEXEC }));
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ERRNO.EAGAIN) throw error;
  }
}
