/**
 * Watches of files and directories by name.
 *
 * Read from   fdinfo: one line for each watch; unread events, and the next number of a watch: the kernel's memory where the tree lives
 *             on or its images go over a stream (linux/kernel-events.ts), else read(2) and inotify_add_watch(2) when the tree is dead
 * Made with   inotify_init1(2), inotify_add_watch(2) after INOTIFY_IOC_SETNEXTWD; unread events by causing them again on files of
 *             our own (inotify-queue.ts, inotify-replay.ts)
 *
 * No call gives unread events to anybody but a reader, and they cannot be put back into a queue whose watches are in use. So a dump
 * that leaves the tree running does not touch them. Where it cannot see them in the kernel's memory either, its images have an
 * overflow instead (IN_Q_OVERFLOW), which says what is true: events are missing, look for yourself.
 */
import { closeSync, fstatSync, readSync, writeSync } from "node:fs";
import { readlinkSync } from "../../linux/named-files.js";
import { ImageError, Refusal } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import {
  IN_CLOEXEC,
  IN_DELETE_SELF,
  IN_DONT_FOLLOW,
  IN_NONBLOCK,
  type InotifyEvent,
  inotifyAddWatch,
  inotifyEvents,
  inotifyInit,
  inotifyRemoveWatch,
  setNextWatch,
} from "../../linux/events.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { KernelEvents, inotifyBytes } from "../../linux/kernel-events.js";
import { bytesToRead } from "../../linux/pipes.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { inotifyWatches } from "../../linux/proc/fdinfo-kinds.js";
import { readFdInfo, readSysctl } from "../../linux/proc/read.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import type { InotifyFileEntry, InotifyWdEntry } from "./fsnotify.schema.js";
import { planQueue } from "./inotify-queue.js";
import { drain, replay } from "./inotify-replay.js";
import { INOTIFY_LINK, noteListener } from "./listeners.js";
import { findAgain, findPlace, handleEntry } from "./places.js";

/** A million events with names; the kernel's own limit is far below. */
const MAX_QUEUE_BYTES = 256 << 20;

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
          remedy: ["Name a directory above it with --irmap-scan-path", "Remove the watch in the program before the dump"],
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
  setNextWatch(fd, entry.wd);
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

/** Image of our own of inotify `id`: the number of its next watch (32 bits), then the events in its queue. */
const queueName = (id: number): string => imageFileName("FLOE_INOTIFY", [id]);
const HEAD_BYTES = 4;

/**
 * Asks the group when the tree is dead what it says to no one else: it lives as long as a descriptor of ours. Of its queue,
 * `bytes` were there when the tree stood still; what came since is behind them.
 */
function saveLater(file: OpenFile, bytes: number, session: DumpSession): void {
  const image = dupFrom(session.images.rawFile(queueName(file.id)), 0);
  const group = dupFrom(file.local, 0);
  const close = () => {
    closeSync(group);
    closeSync(image);
  };
  session.takeBack(close);
  session.afterDeath(() => {
    const room = Buffer.alloc(HEAD_BYTES + bytes);
    for (let got = 0; got < bytes; ) got += readSync(group, room, HEAD_BYTES + got, bytes - got, null);
    room.writeInt32LE(inotifyAddWatch(group, "/", IN_DELETE_SELF), 0);
    writeWhole(image, room);
    close();
  });
}

/** Whether the queue was seen in the kernel's memory: its first `bytes` are saved, when the tree goes on. */
function saveNow(file: OpenFile, bytes: number, session: DumpSession): boolean {
  const kernel = kernelEvents();
  const [copy, next] = [kernel?.copyQueue(file.local, bytes), kernel?.nextWatch(file.local)];
  if (copy === undefined || next === undefined) return false;
  session.later(() => {
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeInt32LE(next);
    const events = copy.events(bytes);
    if (events === undefined) session.warn(overflowWarning(file));
    else writeWhole(session.images.rawFile(queueName(file.id)), Buffer.concat([head, inotifyBytes(events)]));
  });
  return true;
}

const overflowWarning = ({ fd, task }: Pick<OpenFile, "task" | "fd">): string =>
  `fd ${fd} of process ${task.pid}: inotify events nobody has read stay with it; restored, it reads an overflow`;

function writeWhole(image: Fd, bytes: Buffer): void {
  for (let put = 0; put < bytes.length; ) put += writeSync(image, bytes, put);
}

let events: KernelEvents | undefined;
let wasTried = false;

function kernelEvents(): KernelEvents | undefined {
  if (!wasTried) events = KernelEvents.open();
  wasTried = true;
  return events;
}

/** Getting ready to look at the queues of a tree takes some 15 ms, so it is done before the freeze where a process has one. */
export function prepareQueues(pids: readonly number[]): void {
  if (!wasTried && pids.some(hasInotify)) kernelEvents();
}

function hasInotify(pid: number): boolean {
  try {
    return readFdNumbers(pid).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === INOTIFY_LINK);
  } catch {
    return false; // it has ended, or closes what it had
  }
}

/** What was asked of a group; undefined: nothing was, since the dump left the tree running or was killed. */
function savedQueue({ id }: InotifyFileEntry, session: RestoreSession): { next: number; events: InotifyEvent[] } | undefined {
  if (!session.images.exists("FLOE_INOTIFY", [id])) return undefined;
  const file = queueName(id);
  const image = session.images.rawFile(file);
  const { size } = fstatSync(image);
  if (size === 0) return undefined;
  const bytes = Buffer.alloc(Math.min(size, MAX_QUEUE_BYTES + 1));
  const isWhole = size >= HEAD_BYTES && size <= MAX_QUEUE_BYTES && readSync(image, bytes, 0, size, 0) === size;
  const events = isWhole ? inotifyEvents(bytes.subarray(HEAD_BYTES)) : undefined;
  if (events === undefined)
    throw new ImageError({
      code: "IMAGE_BAD_EVENTS",
      place: { file },
      because: "it is no queue of whole inotify events",
      remedy: ["Use an intact copy of the images directory", "Remove it: the program then gets an overflow (IN_Q_OVERFLOW)"],
    });
  return { next: bytes.readInt32LE(0), events };
}

/** Fills the queue of a new group, which has no watches yet. */
function refill({ id }: InotifyFileEntry, events: InotifyEvent[] | undefined, { fd, session }: { fd: Fd; session: RestoreSession }): void {
  const limit = Number(readSysctl("fs/inotify/max_queued_events") ?? 16384n);
  const plan = planQueue(events ?? [], limit);
  const name = `inotify ${id}`;
  if (events !== undefined && replay(fd, plan, limit)) {
    if (plan.lost > 0)
      session.warn(`${name}: ${plan.lost} of ${events.length} unread events cannot be made again; it will read an overflow`);
    return;
  }
  session.warn(`${name}: its unread events are lost; it will read an overflow`);
  drain(fd, 0);
  replay(fd, { before: [], overflow: true, after: [], lost: 0 }, limit);
}

/** Bytes in the queue before the dump opened anything, by `pid/fd`; opening and reading files of the tree adds events. */
const unreadOnes = new WeakMap<DumpSession, Map<string, number>>();
const place = ({ task, fd }: Pick<OpenFile, "task" | "fd">): string => `${task.pid}/${fd}`;

export const inotifies: FileKind<InotifyFileEntry> = {
  name: "watches/inotify",
  rows: ["file.inotify"],
  type: "INOTIFY",
  field: "ify",
  isPathless: true,
  matches: ({ link }) => link === INOTIFY_LINK,
  first: {
    matches: (link) => link === INOTIFY_LINK,
    look(file, session) {
      const known = unreadOnes.get(session) ?? new Map<string, number>();
      unreadOnes.set(session, known);
      known.set(place(file), bytesToRead(file.local));
      noteListener(INOTIFY_LINK, readFdInfo(file.task.traced.pid, file.fd), session);
    },
  },
  dump(file, session) {
    // One that is on its way between processes has not been seen before.
    const bytes = unreadOnes.get(session)?.get(place(file)) ?? bytesToRead(file.local);
    const unread = bytes > 0;
    const isSeen = wasTried && saveNow(file, bytes, session);
    if (unread && session.livesOn && !isSeen) session.warn(overflowWarning(file));
    if (!session.livesOn && !isSeen) saveLater(file, bytes, session);
    return { id: file.id, flags: file.info.flags, fown: file.fown, wd: dumpWatches(file, session), ...(unread ? { unread } : {}) };
  },
  open(entry) {
    const fd = inotifyInit(IN_CLOEXEC | IN_NONBLOCK);
    setStatusFlags(fd, entry.flags | IN_NONBLOCK);
    return fd;
  },
  linksLast: true,
  // When all files are there: what the restore does to them before is not to be reported.
  link(entry, { fd, session }) {
    const saved = savedQueue(entry, session);
    if (entry.unread === true) refill(entry, saved?.events, { fd, session });
    const queued = bytesToRead(fd);
    const watches = [...entry.wd].sort((a, b) => a.wd - b.wd);
    for (const watch of watches) addWatch(fd, watch, session);
    // Without a choice of numbers, watches in between had to be made and taken away again.
    if (!setNextWatch(fd, Math.max(saved?.next ?? 0, (watches.at(-1)?.wd ?? 0) + 1))) drain(fd, queued);
    setStatusFlags(fd, entry.flags);
  },
  check(entry, session) {
    try {
      savedQueue(entry, session);
      return [];
    } catch (error) {
      if (error instanceof ImageError) return [error];
      throw error;
    }
  },
};
