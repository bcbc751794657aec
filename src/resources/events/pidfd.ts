/**
 * Descriptors of processes and threads: of any of the tree, living or dead, and of those that are gone.
 *
 * Read from   fdinfo: Pid, NSpid
 * Made with   pidfd_open(2); for one that is gone, of a process made and ended for it
 *
 * Descriptors are made before threads are. An event counter keeps the place of one of a thread other than the first.
 */
import { closeSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { O_ACCMODE } from "../../linux/files.js";
import { pidfdInfo } from "../../linux/proc/fdinfo-kinds.js";
import { readStat } from "../../linux/proc/read.js";
import { PIDFD_THREAD, kcmpFile, pidfdOpen } from "../../linux/process.js";
import { SIGKILL, pidfdSendSignal } from "../../linux/signals.js";
import { SYS } from "../../linux/syscalls.js";
import { createTasks } from "../../target/create.js";
import { endTask } from "../../target/exit.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import { startIdle, waitDeath } from "../../target/seed.js";
import type { TracedTask } from "../../target/thread.js";
import { replaceStandIn, standIn } from "../files/replace.js";
import { fileEntry } from "../files/table.schema.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession, RestoreTask } from "../part.js";
import { outsidePid } from "../tasks/pid-numbers.js";
import { pstreeEntry } from "../tasks/tree.schema.js";
import { watchAgain } from "./epoll.js";
import type { PidfdEntry } from "./pidfd.schema.js";

/** What fdinfo and images have for a process that is gone. */
const GONE = -1;
/** Below the smallest pid_max that systems come with. */
const HIGHEST_FREE = 32_767;
const SIGCHLD = 17;
/** __WALL of wait4(2): whatever signal its end sends. */
const WALL = 0x4000_0000;
/** Any free place will do: the process does nothing. */
const IDLE_PLACE = { region: 0x2000_0000n, regionBytes: 4096 };

/** Whether the process is of the tree; a dead one is if its parent is. */
function isInTree(pid: number, session: DumpSession): boolean {
  const living = (one: number) => session.tasks.some((task) => task.traced.pid === one);
  if (living(pid)) return true;
  try {
    const { state, ppid } = readStat(pid);
    return state === "Z" && living(ppid);
  } catch {
    return false;
  }
}

/** Whether it is a thread of the tree, but no first one. */
function isLaterThread(tid: number, session: DumpSession): boolean {
  return session.tasks.some(({ traced }) => traced.pid !== tid && traced.threads.some((thread) => thread.tid === tid));
}

/** Whether the descriptor is on its way between processes, and not a process's own yet. */
function isOnItsWay({ task, fd, local }: OpenFile): boolean {
  try {
    return kcmpFile({ pid: task.traced.pid, fd }, { pid: process.pid, fd: local }) !== 0;
  } catch {
    return true; // EBADF: the process has no such number
  }
}

function whyNot(file: OpenFile, pid: number, session: DumpSession): { code: string; because: string } | undefined {
  if (pid === GONE || isInTree(pid, session)) return undefined;
  const isThread = (file.info.flags & PIDFD_THREAD) !== 0 && isLaterThread(pid, session);
  if (!isThread) return { code: "PIDFD_OUTSIDE", because: "the process is not of the tree" };
  if (!isOnItsWay(file)) return undefined;
  return { code: "PIDFD_OF_THREAD", because: "it is on its way through a socket, where no descriptor of a later thread can be put" };
}

function dump(file: OpenFile, session: DumpSession): PidfdEntry {
  const { pid, nsPid } = pidfdInfo(file.info);
  const reason = whyNot(file, pid, session);
  if (reason !== undefined) {
    session.refuse(
      new Refusal({
        ...reason,
        process: { pid: file.task.traced.pid, comm: file.task.comm },
        resource: `fd ${file.fd} (pidfd of ${pid === 0 ? "a process of another pid namespace" : pid})`,
        remedy: ["Dump a tree that has this process in it", "Close the descriptor in the program before the dump"],
      }),
    );
  }
  // The flags are those of pidfd_open(2).
  return {
    id: file.id,
    ino: Number(file.stat.ino & 0xffff_ffffn),
    flags: file.info.flags & ~O_ACCMODE,
    nspid: nsPid.at(-1) ?? pid,
    fown: file.fown,
  };
}

const goneOnes = new WeakMap<RestoreSession, Map<number, Fd>>();

/** Descriptors of processes that are gone, by file id: those of one process have to be opened while it is there. */
function openGone(entry: PidfdEntry, session: RestoreSession): Fd {
  const known = goneOnes.get(session) ?? new Map<number, Fd>();
  goneOnes.set(session, known);
  if (!known.has(entry.id)) {
    const same = session.images
      .records("FILES", [], fileEntry)
      .flatMap(({ value: { pidfd } }) => (pidfd?.nspid === GONE && pidfd.ino === entry.ino ? [pidfd] : []));
    const { pid, end } = shortLived(session);
    for (const one of same) {
      const fd = pidfdOpen(pid, one.flags & PIDFD_THREAD);
      session.closeLater(fd);
      known.set(one.id, fd);
    }
    end();
  }
  return dupFrom(known.get(entry.id) ?? -1, 0);
}

/** A process to be gone: in the pid namespace of the tree, since descriptors of others are refused there. */
function shortLived(session: RestoreSession): { pid: number; end(): void } {
  const root = session.tasks[0]?.traced;
  if (root === undefined || root.isInOurPidNamespace) {
    const pid = startIdle(IDLE_PLACE);
    const first = pidfdOpen(pid);
    const end = () => {
      pidfdSendSignal(first, SIGKILL);
      waitDeath(pid);
      closeSync(first);
    };
    return { pid, end };
  }
  const [made] = createTasks(root, [{ pid: freeNumber(session), comm: "gone", asSibling: false }]);
  if (made === undefined) throw new Error("internal error: a process to be gone was not made");
  return { pid: made.pid, end: () => endChild(root, made) };
}

/** A number that nobody in the tree's own pid namespace has. */
function freeNumber(session: RestoreSession): number {
  const taken = new Set(
    session.images.records("PSTREE", [], pstreeEntry).flatMap(({ value }) => [value.pid, value.pgid, value.sid, ...value.threads]),
  );
  let pid = HIGHEST_FREE;
  while (taken.has(pid)) pid--;
  return pid;
}

/** Ends a child that the images do not know; its parent, all of whose signals are blocked, never gets to know of it. */
function endChild(parent: TracedTask, child: TracedTask): void {
  endTask(child, 0);
  const program = new Program();
  const childSignal = Buffer.alloc(8);
  childSignal.writeBigUInt64LE(1n << BigInt(SIGCHLD - 1));
  program.call(SYS.wait4, child.nsPid, 0, WALL, 0).must("waiting for a process that has to be gone");
  program.call(SYS.rt_sigtimedwait, program.bytes(childSignal), 0, program.bytes(Buffer.alloc(16)), childSignal.length);
  run(parent.leader, program);
}

/** The thread that a descriptor is for, unless it is a first one. */
function laterThread({ nspid, flags }: PidfdEntry, session: RestoreSession): { task: RestoreTask; index: number } | undefined {
  if ((flags & PIDFD_THREAD) === 0) return undefined;
  for (const task of session.tasks) {
    const index = task.threads.findIndex(({ tid }) => tid === nspid);
    if (index > 0) return { task, index };
  }
  return undefined;
}

export const pidfds: FileKind<PidfdEntry> = {
  name: "events/pidfd",
  rows: ["file.pidfd"],
  type: "PIDFD",
  field: "pidfd",
  isPathless: true,
  matches: ({ link }) => link === "anon_inode:[pidfd]" || link.startsWith("pidfd:["),
  dump,
  open(entry, session) {
    if (laterThread(entry, session) !== undefined) return standIn();
    const fd = entry.nspid === GONE ? openGone(entry, session) : pidfdOpen(outsidePid(entry.nspid, session), entry.flags & PIDFD_THREAD);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
  finish(entry, { session, holders }) {
    const thread = laterThread(entry, session);
    const tid = thread?.task.traced.threads[thread.index]?.tid;
    if (tid === undefined) return undefined;
    const fd = pidfdOpen(tid, PIDFD_THREAD);
    session.closeLater(fd);
    setStatusFlags(fd, entry.flags);
    replaceStandIn(fd, holders);
    // They may be watched by epolls.
    watchAgain(fd, new Set(holders.map((holder) => holder.fd)), session);
    return fd;
  },
  check(entry, session, { process, what }) {
    if (entry.nspid === GONE || laterThread(entry, session) !== undefined) return [];
    if (session.images.records("PSTREE", [], pstreeEntry).some((r) => r.value.pid === entry.nspid)) return [];
    return [
      new ImageError({
        code: "IMAGE_BAD_REFERENCE",
        place: { file: "files.img", message: "pidfd_entry", field: "nspid" },
        because: `${what} of process ${process.pid} is a descriptor of process ${entry.nspid}, which the tree does not have`,
        remedy: ["Dump the process again"],
      }),
    ];
  },
};
