/**
 * Whether a tree is told when somebody opens or reads its files: by inotify, fanotify, or signals about directories (F_NOTIFY). Then
 * files are opened in a way that nobody is told of (linux/quiet-open.ts), which costs half a millisecond each, or not at all.
 *
 * It is asked of the tree as a whole: which files a mark is about is not always to be seen, and hardly any program wants to hear of
 * what is only read.
 *
 * Read from   fdinfo of inotify and fanotify; F_GETOWN of directories, since the kernel does not say who has asked for notices (F_NOTIFY)
 */
import { closeSync } from "node:fs";
import { FAN_PERMISSIONS, IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN } from "../../linux/events.js";
import { getOwner, getStatusFlags } from "../../linux/fcntl.js";
import { O_PATH } from "../../linux/files.js";
import { openQuietly } from "../../linux/quiet-open.js";
import { openSync, readlinkSync, statSync } from "../../linux/named-files.js";
import type { FdInfo } from "../../linux/proc/fdinfo.js";
import { fanotifyInfo, inotifyWatches } from "../../linux/proc/fdinfo-kinds.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import type { DumpSession, Fd } from "../part.js";
import { FANOTIFY_LINK } from "./guards.js";

export const INOTIFY_LINK = "anon_inode:inotify";
/** What a look at a file causes; FAN_ACCESS, FAN_OPEN and FAN_CLOSE_NOWRITE are the same bits. */
const BY_LOOKS = IN_ACCESS | IN_OPEN | IN_CLOSE_NOWRITE;

/** Whether a group of inotify hears of looks at files. */
const inotifyHears = (info: FdInfo): boolean => inotifyWatches(info).some(({ mask }) => (mask & BY_LOOKS) !== 0);

/** The same for one of fanotify. */
const fanotifyHears = (info: FdInfo): boolean => fanotifyInfo(info).marks.some(({ mask }) => (mask & (BY_LOOKS | FAN_PERMISSIONS)) !== 0);

/** Whether running processes hear of looks at files. */
export function hearOfLooks(pids: readonly number[]): boolean {
  return pids.some((pid) => {
    const files: number[] = [];
    for (const fd of whileThere(() => readFdNumbers(pid)) ?? []) {
      const link = whileThere(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
      if (link?.startsWith("/") === true) files.push(fd);
      else if (link !== undefined && whileThere(() => hears(pid, fd, link)) === true) return true;
    }
    return hasOwnedDirectory(pid, files);
  });
}

function hears(pid: number, fd: number, link: string): boolean {
  if (link === INOTIFY_LINK) return inotifyHears(readFdInfo(pid, fd));
  return link === FANOTIFY_LINK && fanotifyHears(readFdInfo(pid, fd));
}

/** What `look` returns; undefined when the process has ended, or has closed what was looked at. */
function whileThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** Whether somebody is told by signals about one of these descriptors, and it is of a directory. */
export function hasOwnedDirectory(pid: number, fds: readonly number[]): boolean {
  const directories = fds.filter((fd) => whileThere(() => statSync(`/proc/${pid}/fd/${fd}`).isDirectory()));
  const pidfd = directories.length === 0 ? undefined : whileThere(() => pidfdOpen(pid));
  if (pidfd === undefined) return false;
  try {
    return directories.some((fd) => whileThere(() => hasOwner(pidfd, fd)));
  } finally {
    closeSync(pidfd);
  }
}

function hasOwner(pidfd: Fd, fd: number): boolean {
  const local = pidfdGetfd(pidfd, fd);
  try {
    return (getStatusFlags(local) & O_PATH) === 0 && getOwner(local).pid !== 0;
  } finally {
    closeSync(local);
  }
}

const heard = new WeakSet<DumpSession>();

/** Notes a group that is found in the freeze; before the dump opens any file of the tree. */
export function noteListener(link: string, info: FdInfo, session: DumpSession): void {
  if (link === INOTIFY_LINK ? inotifyHears(info) : fanotifyHears(info)) heard.add(session);
}

/** Whether the tree hears of it when a file is opened. */
export const isHeard = (session: Pick<DumpSession, "hearsOfLooks">): boolean => session.hearsOfLooks || heard.has(session as DumpSession);

/** Opens a file to look into it; undefined: that cannot be done without being heard, or at all. */
export function openToLook(path: string, { isHeard, flags }: { isHeard: boolean; flags: number }): Fd | undefined {
  if (isHeard) return openQuietly(path);
  try {
    return openSync(path, flags);
  } catch {
    return undefined;
  }
}
