/**
 * Watches of files and directories by name.
 *
 * Read from   fdinfo: one line for each watch
 * Made with   inotify_init1(2), inotify_add_watch(2); numbers of watches only grow, so those in between are made and
 *             removed; what the restore itself caused is read away
 *
 * The kernel gives unread events to nobody but a reader, and they cannot be put back. The program gets an overflow instead
 * (IN_Q_OVERFLOW), which says what is true: events are lost, look for yourself.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ImageError, Refusal } from "../../errors.js";
import {
  IN_ACCESS,
  IN_ATTRIB,
  IN_CLOEXEC,
  IN_DONT_FOLLOW,
  IN_NONBLOCK,
  INOTIFY_EVENT_BYTES,
  inotifyAddWatch,
  inotifyInit,
  inotifyRemoveWatch,
} from "../../linux/events.js";
import { setStatusFlags } from "../../linux/fcntl.js";
import { bytesToRead } from "../../linux/pipes.js";
import { inotifyWatches } from "../../linux/proc/fdinfo-kinds.js";
import { readSysctl } from "../../linux/proc/read.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import type { InotifyFileEntry, InotifyWdEntry } from "./fsnotify.schema.js";
import { findAgain, findPlace, handleEntry } from "./places.js";

function dumpWatches(file: OpenFile, session: DumpSession): InotifyWdEntry[] {
  const entries: InotifyWdEntry[] = [];
  for (const watch of inotifyWatches(file.info)) {
    const at = findPlace(watch, { pid: file.task.traced.pid, session });
    if (at === undefined) {
      session.refuse(
        new Refusal({
          code: "WATCHED_FILE_UNKNOWN",
          process: { pid: file.task.traced.pid, comm: file.task.comm },
          resource: `fd ${file.fd} (inotify), watch ${watch.wd}`,
          because: `no name is known of what it watches, inode ${watch.inode} of device ${watch.device >>> 20}:${watch.device & 0xfffff}`,
          remedy: ["Remove the watch in the program before the dump"],
        }),
      );
      continue;
    }
    const { wd, mask, ignoredMask } = watch;
    entries.push({
      id: file.id,
      i_ino: watch.inode,
      mask,
      ignored_mask: ignoredMask,
      s_dev: watch.device,
      wd,
      f_handle: handleEntry(watch, at),
    });
  }
  return entries.sort((a, b) => a.wd - b.wd);
}

/** Adds a watch under its own number. */
function addWatch(fd: Fd, entry: InotifyWdEntry, session: RestoreSession): void {
  const found = findAgain(entry.f_handle, { device: entry.s_dev, session });
  if (found === undefined) throw watchedGone(entry);
  const mask = entry.mask | (found.isLink ? 0 : IN_DONT_FOLLOW);
  for (;;) {
    const got = inotifyAddWatch(fd, found.path, mask);
    if (got === entry.wd) return;
    if (got > entry.wd) throw watchedGone(entry);
    inotifyRemoveWatch(fd, got);
  }
}

function watchedGone(entry: InotifyWdEntry): ImageError {
  return new ImageError({
    code: "WATCHED_FILE_GONE",
    place: { file: "files.img", message: "inotify_wd_entry", field: "f_handle" },
    because: `what watch ${entry.wd} watches (${entry.f_handle.path ?? `inode ${entry.i_ino}`}) is not there any more`,
    remedy: ["Put the file back, or dump the process again"],
  });
}

/** Reads events away until `keepBytes` are left. `fd` does not block. */
function drain(fd: Fd, keepBytes: number): void {
  const room = Buffer.alloc(1 << 16);
  for (let left = bytesToRead(fd); left > keepBytes; left = bytesToRead(fd))
    readSync(fd, room, 0, Math.min(room.length, left - keepBytes), null);
}

/** Puts an IN_Q_OVERFLOW into the empty queue: the kernel does when as many events are in it as may be. */
function overflow(fd: Fd): void {
  const directory = mkdtempSync(join(tmpdir(), "floe-"));
  const path = join(directory, "f");
  writeFileSync(path, "content");
  const other = openSync(path, "r");
  try {
    const watch = inotifyAddWatch(fd, path, IN_ACCESS | IN_ATTRIB);
    // Equal events in a row are one: two watches of one file are not to be had, two kinds of event are.
    const byte = Buffer.alloc(1);
    const limit = Number(readSysctl("fs/inotify/max_queued_events") ?? 16384n);
    for (let i = 0; bytesToRead(fd) < (limit + 1) * INOTIFY_EVENT_BYTES && i <= limit; i++) {
      if (i % 2 === 0) readSync(other, byte, 0, 1, 0);
      else utimesSync(path, 0, 0);
    }
    inotifyRemoveWatch(fd, watch);
    drain(fd, INOTIFY_EVENT_BYTES);
  } finally {
    closeSync(other);
    rmSync(directory, { recursive: true });
  }
}

/** Descriptors with unread events, as `pid/fd`; reading the files of the tree adds more. */
const unreadOnes = new WeakMap<DumpSession, Set<string>>();
const LINK = "anon_inode:inotify";
const place = ({ task, fd }: Pick<OpenFile, "task" | "fd">): string => `${task.pid}/${fd}`;

export const inotifies: FileKind<InotifyFileEntry> = {
  name: "watches/inotify",
  rows: ["file.inotify"],
  type: "INOTIFY",
  field: "ify",
  matches: ({ link }) => link === LINK,
  first: {
    matches: (link) => link === LINK,
    look(file, session) {
      const known = unreadOnes.get(session) ?? new Set();
      unreadOnes.set(session, known);
      if (bytesToRead(file.local) > 0) known.add(place(file));
    },
  },
  dump(file, session) {
    const unread = unreadOnes.get(session)?.has(place(file)) === true;
    if (unread)
      session.warn(`fd ${file.fd} of process ${file.task.pid}: inotify events nobody has read are not kept; it will read an overflow`);
    return { id: file.id, flags: file.info.flags, fown: file.fown, wd: dumpWatches(file, session), ...(unread ? { unread } : {}) };
  },
  open(entry) {
    const fd = inotifyInit(IN_CLOEXEC | IN_NONBLOCK);
    setStatusFlags(fd, entry.flags | IN_NONBLOCK);
    return fd;
  },
  // When all files are there: what the restore does to them before is not to be reported.
  link(entry, { fd, session }) {
    for (const watch of [...entry.wd].sort((a, b) => a.wd - b.wd)) addWatch(fd, watch, session);
    drain(fd, 0);
    if (entry.unread === true) overflow(fd);
    setStatusFlags(fd, entry.flags);
  },
};
