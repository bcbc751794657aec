/**
 * Descriptors of processes: of any process of the tree, living or dead, and of processes that are gone.
 *
 * Read from   fdinfo: Pid, NSpid
 * Made with   pidfd_open(2); for one that is gone, of a process made and ended for it
 */
import { closeSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { O_ACCMODE } from "../../linux/files.js";
import { pidfdInfo } from "../../linux/proc/fdinfo-kinds.js";
import { readStat } from "../../linux/proc/read.js";
import { PIDFD_THREAD, pidfdOpen } from "../../linux/process.js";
import { SIGKILL, pidfdSendSignal } from "../../linux/signals.js";
import { startIdle, waitDeath } from "../../target/seed.js";
import { fileEntry } from "../files/table.schema.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import { pstreeEntry } from "../tasks/tree.schema.js";
import type { PidfdEntry } from "./pidfd.schema.js";

/** What fdinfo and images have for a process that is gone. */
const GONE = -1;
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

function whyNot(file: OpenFile, pid: number, session: DumpSession): { code: string; because: string } | undefined {
  if (pid === GONE) return undefined;
  if ((file.info.flags & PIDFD_THREAD) !== 0 && !isInTree(pid, session))
    return { code: "PIDFD_OF_THREAD", because: "descriptors of a thread other than the first are not carried" };
  if (!isInTree(pid, session)) return { code: "PIDFD_OUTSIDE", because: "the process is not of the tree" };
  return undefined;
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
    const pid = startIdle(IDLE_PLACE);
    const first = pidfdOpen(pid);
    for (const one of same) {
      const fd = pidfdOpen(pid, one.flags & PIDFD_THREAD);
      session.closeLater(fd);
      known.set(one.id, fd);
    }
    pidfdSendSignal(first, SIGKILL);
    waitDeath(pid);
    closeSync(first);
  }
  return dupFrom(known.get(entry.id) ?? -1, 0);
}

export const pidfds: FileKind<PidfdEntry> = {
  name: "events/pidfd",
  rows: ["file.pidfd"],
  type: "PIDFD",
  field: "pidfd",
  matches: ({ link }) => link === "anon_inode:[pidfd]" || link.startsWith("pidfd:["),
  dump,
  open(entry, session) {
    const fd =
      entry.nspid === GONE
        ? openGone(entry, session)
        : pidfdOpen(session.task(entry.nspid)?.traced.pid ?? entry.nspid, entry.flags & PIDFD_THREAD);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
  check(entry, session, { process, what }) {
    if (entry.nspid === GONE) return [];
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
