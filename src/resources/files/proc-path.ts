/**
 * Open files below /proc/PID: of processes of the tree, which are there again when files are opened, and of processes that
 * are gone, for which a process with that pid is made and ended.
 */
import { existsSync, writeFileSync } from "../../linux/named-files.js";
import { type ProcessName, Refusal } from "../../errors.js";
import { ERRNO, kernelError } from "../../linux/errno.js";
import { EFD_CLOEXEC } from "../../linux/events.js";
import { O_CLOEXEC } from "../../linux/files.js";
import { RLIMIT, getPrlimit, setPrlimit } from "../../linux/limits.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { SIGKILL, kill } from "../../linux/signals.js";
import { SYS } from "../../linux/syscalls.js";
import { closeRemote } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import { startIdle, waitDeath } from "../../target/seed.js";
import type { DumpSession, Fd, RestoreSession, RestoreTask } from "../part.js";
import { pstreeEntry } from "../tasks/tree.schema.js";
import { remapFilePathEntry, remapType } from "./remap.schema.js";

const { PROCFS } = remapType.values;
/** Any free place will do: the process does nothing. */
const IDLE_PLACE = { region: 0x2000_0000n, regionBytes: 4096 };
const TRIES = 20;
/** What may be about a thread, a descriptor, or both. */
const LATE = /^\/proc\/(\d+)(?:\/task\/(\d+))?(?:\/fd(?:info)?\/(\d+))?(?:\/|$)/;

/** The process that a file of /proc belongs to. */
export function procOwner(name: string): number | undefined {
  if (!isOfProc(name)) return undefined;
  const [, pid] = /^\/proc\/(\d+)(?:\/|$)/.exec(name) ?? [];
  return pid === undefined ? undefined : Number(pid);
}

/** Whether a name has the number of a process of the tree outside of its own pid namespace, where it will have another one. */
export function hasOuterNumber(name: string, { tasks }: Pick<DumpSession, "tasks">): boolean {
  return procOwner(name) !== undefined && tasks[0]?.traced.isInOurPidNamespace === false;
}

/** `what`: as in `fd 3`. */
export function outerNumber({ process, what, link }: { process: ProcessName; what: string; link: string }): Refusal {
  return new Refusal({
    code: "PROC_FILE_OUTER_NUMBER",
    process,
    resource: `${what} (${link})`,
    because: "it is a file of a process by its number outside of the pid namespace of the tree, where it gets another one",
    remedy: ["Close the file in the program before the dump", "Run Floe inside the pid namespace: nsenter --target PID --pid …"],
  });
}

/** Reading from a file of /proc may have effects, fail or never end: nothing looks into it. */
export function isOfProc(name: string): boolean {
  return name.startsWith("/proc/");
}

/** The name for a file of a thread that is gone: as of a process with its number, which is as gone. */
export function nameOfGone(name: string): string {
  const [whole, pid, tid, rest] = /^\/proc\/(\d+)\/task\/(\d+)(\/.*|$)/.exec(name) ?? [];
  if (whole === undefined || tid === pid || existsSync(`/proc/${pid}/task/${tid}`)) return name;
  return `/proc/${tid}/task/${tid}${rest}`;
}

/** A descriptor of a process that is gone, which nobody can make again; or one that is there only when all are, and is on its way. */
export function isLostInProc(name: string, isInFlight: boolean): boolean {
  const [, pid, tid, fd] = LATE.exec(name) ?? [];
  if (fd !== undefined && !existsSync(`/proc/${pid}`)) return true;
  return isInFlight && (fd !== undefined || (tid !== undefined && tid !== pid));
}

export function lostInProc({ process, what, link }: { process: ProcessName; what: string; link: string }): Refusal {
  return new Refusal({
    code: "FILE_KIND_UNSUPPORTED",
    process,
    resource: `${what} (${link})`,
    because: "it is about a descriptor of a process that is gone, or about one or a thread and on its way between processes",
    remedy: ["Close the file in the program before the dump"],
  });
}

/** Notes for a file of a process that is gone which process that was. */
export function noteGone(id: number, name: string, session: DumpSession): void {
  const pid = procOwner(name);
  if (pid === undefined || existsSync(`/proc/${pid}`)) return;
  session.images.append("REMAP_FPATH", [], { type: remapFilePathEntry, value: { orig_id: id, remap_id: pid, remap_type: PROCFS } });
}

/** Whether the file will be there to be opened, though it may not be there now. */
export function willBeThere(name: string, session: RestoreSession): boolean {
  const pid = procOwner(name);
  return pid !== undefined && (isGone(pid, session) || session.images.records("PSTREE", [], pstreeEntry).some((r) => r.value.pid === pid));
}

/** Whether a process was gone at the time of the dump, while files of it were open. */
export function isGone(pid: number, session: RestoreSession): boolean {
  return session.images
    .records("REMAP_FPATH", [], remapFilePathEntry)
    .some((r) => r.value.remap_id === pid && r.value.remap_type === PROCFS);
}

/** A file of a process of the tree that is there only when all threads and descriptors are. */
export interface LateFile {
  readonly task: RestoreTask;
  /** The descriptor that it is about. */
  readonly fd: number | undefined;
}

/** What a name below /proc is about, if that has to be there first: another thread, a descriptor (its link, or what is said of it). */
export function lateFile(name: string, session: RestoreSession): LateFile | undefined {
  if (!isOfProc(name)) return undefined;
  const [, pid, tid, fd] = LATE.exec(name) ?? [];
  const task = pid === undefined ? undefined : session.task(Number(pid));
  if (task === undefined || (fd === undefined && (tid === undefined || tid === pid))) return undefined;
  return { task, fd: fd === undefined ? undefined : Number(fd) };
}

/** Calls `open` while a process has a descriptor of that number: one that it had closed is open for that moment. */
export function whileOpen({ task, fd }: LateFile, open: () => Fd): Fd {
  const { pid, leader } = task.traced;
  if (fd === undefined || readFdNumbers(pid).includes(fd)) return open();
  const limit = getPrlimit(pid, RLIMIT.NOFILE);
  const wanted = BigInt(fd + 1);
  const isRoom = limit.soft >= wanted;
  if (!isRoom) setPrlimit(pid, RLIMIT.NOFILE, { soft: wanted, hard: limit.hard > wanted ? limit.hard : wanted });
  const make = new Program();
  const made = make.call(SYS.eventfd2, 0, EFD_CLOEXEC).must("making a descriptor for a moment");
  make.call(SYS.dup3, made, fd, O_CLOEXEC);
  run(leader, make);
  const own = Number(made.value);
  try {
    return open();
  } finally {
    closeRemote(leader, own === fd ? [fd] : [own, fd]);
    if (!isRoom) setPrlimit(pid, RLIMIT.NOFILE, limit);
  }
}

/** Calls `open` while there is a process `pid`, which is none of the tree. */
export function whileThere(pid: number, open: () => Fd): Fd {
  for (let i = 0; i < TRIES; i++) {
    writeFileSync("/proc/sys/kernel/ns_last_pid", String(pid - 1));
    const got = startIdle(IDLE_PLACE);
    try {
      if (got === pid) return open();
    } finally {
      kill(got, SIGKILL);
      waitDeath(got);
    }
  }
  throw kernelError(`fork for pid ${pid}`, -ERRNO.EEXIST, "making a process that an open file of /proc belongs to");
}
