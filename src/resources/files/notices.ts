/**
 * Notices about a directory by signals ("dnotify"), which a process has asked for by fcntl(2) F_NOTIFY.
 *
 * Read from   the kernel's memory: no call tells of them (linux/kernel-notices.ts). Who asks for them becomes the owner of the open file, so that
 *             only directories with an owner are looked at
 * Made with   F_NOTIFY in the process, under the same number: each descriptor table has its own
 *
 * Where the memory may not be looked at, a warning says that they may be lost.
 */
import { F_NOTIFY } from "../../linux/fcntl.js";
import { KernelNotices, type Notice } from "../../linux/kernel-notices.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { SYS } from "../../linux/syscalls.js";
import type { DumpSession, DumpTask, OpenFile, RestoreTask, ThreadPart } from "../part.js";
import { hasOwnedDirectory } from "../watches/listeners.js";
import type { FdinfoEntry } from "./table.schema.js";

let kernel: KernelNotices | undefined;
let wasTried = false;

function kernelNotices(): KernelNotices | undefined {
  if (!wasTried) kernel = KernelNotices.open();
  wasTried = true;
  return kernel;
}

/** With more descriptors than this nobody looks whether one is of a directory. */
const MOST_DESCRIPTORS = 2000;

/**
 * Getting ready takes some 30 ms: it is done before the freeze where somebody is told of a directory by signals. `hearsOfLooks`: whether anybody
 * is told of anything (watches/listeners.ts).
 */
export function prepareNotices(pids: readonly number[], hearsOfLooks: boolean): void {
  let seen = 0;
  for (const pid of wasTried || !hearsOfLooks ? [] : pids) {
    try {
      const fds = readFdNumbers(pid);
      seen += fds.length;
      if (seen > MOST_DESCRIPTORS) return;
      if (hasOwnedDirectory(pid, fds)) {
        kernelNotices();
        return;
      }
    } catch {
      // It has ended, or closes what it had.
    }
  }
}

/** What was found, by id of the open file. */
const found = new WeakMap<DumpSession, Map<number, readonly Notice[]>>();

/** Looks at an open file that has an owner. */
export function lookForNotices(file: OpenFile, session: DumpSession): void {
  if (!file.stat.isDirectory()) return;
  const view = kernelNotices();
  if (view === undefined)
    session.warn(
      `fd ${file.fd} of process ${file.task.pid}: if it is told of this directory by signals (F_NOTIFY), it is not after a restore: the kernel's memory cannot be looked at`,
    );
  const notices = view?.of(file.local) ?? [];
  if (notices.length === 0) return;
  const known = found.get(session) ?? new Map<number, readonly Notice[]>();
  found.set(session, known);
  known.set(file.id, notices);
}

/** The descriptors of a process, with what it has asked for. */
export function withNotices(task: DumpTask, entries: readonly FdinfoEntry[], session: DumpSession): readonly FdinfoEntry[] {
  const known = found.get(session);
  if (known === undefined || !entries.some(({ id }) => known.has(id))) return entries;
  const table = kernelNotices()?.tableOf(task.traced.pid);
  return entries.map((entry) => {
    const notice = known.get(entry.id)?.find((one) => one.fd === entry.fd && one.table === table);
    return notice === undefined ? entry : { ...entry, notify: notice.mask };
  });
}

/** What is to be asked for again, by the task whose descriptor table was filled. */
const wanted = new WeakMap<RestoreTask, readonly FdinfoEntry[]>();

/** Notes what the descriptors of a table that is being filled say of it. */
export function noteNotices(task: RestoreTask, entries: readonly FdinfoEntry[]): void {
  const some = entries.filter(({ notify }) => notify !== undefined);
  if (some.length > 0) wanted.set(task, some);
}

/** Asks for them again, when nothing more is done to files. */
export const directoryNotices: ThreadPart = {
  name: "files/notices",
  rows: ["file.regular"],
  stage: "last",
  restore({ task, program, isLeader }) {
    for (const { fd, notify = 0 } of isLeader ? (wanted.get(task) ?? []) : [])
      program.call(SYS.fcntl, fd, F_NOTIFY, notify).must(`asking for notices about the directory at fd ${fd}`);
    return undefined;
  },
};
