/**
 * Groups of marks on files, mounts and file systems.
 *
 * Read from   fdinfo: flags of the group, one line for each mark
 * Made with   fanotify_init(2), fanotify_mark(2); what the restore itself caused is read away
 * Refused     marks that decide about permissions while somebody waits for an answer, or where Floe would have to (guards.ts)
 *
 * Unread events name open files and the processes that did something to them; they cannot be made again, and become an
 * overflow (FAN_Q_OVERFLOW). A group with an unlimited queue has none.
 */
import { dirname } from "../../linux/named-paths.js";
import { statSync } from "../../linux/named-files.js";
import { ImageError, Refusal } from "../../errors.js";
import {
  FAN_MARK_ADD,
  FAN_MARK_DONT_FOLLOW,
  FAN_MARK_FILESYSTEM,
  FAN_MARK_IGNORE,
  FAN_MARK_IGNORED_MASK,
  FAN_MARK_MOUNT,
  FAN_UNLIMITED_QUEUE,
  fanotifyInit,
  fanotifyMark,
} from "../../linux/events.js";
import { FD_CLOEXEC, setDescriptorFlags, setStatusFlags } from "../../linux/fcntl.js";
import { O_NONBLOCK } from "../../linux/files.js";
import { bytesToRead } from "../../linux/pipes.js";
import { type FanotifyMark, fanotifyInfo } from "../../linux/proc/fdinfo-kinds.js";
import { readFdInfo, readMountinfo } from "../../linux/proc/read.js";
import { fromKernelDevice } from "../../linux/device-numbers.js";
import type { DumpSession, Fd, FileKind, FileUse, OpenFile, Problem, RestoreSession } from "../part.js";
import { type FanotifyFileEntry, type FanotifyMarkEntry, markType } from "./fsnotify.schema.js";
import { drain, overflow } from "./fanotify-queue.js";
import { FANOTIFY_LINK, decides, noteGuards, whoWaits } from "./guards.js";
import { noteListener } from "./listeners.js";
import { findAgain, findPlace, handleEntry } from "./places.js";

const { INODE, MOUNT, FILESYSTEM } = markType.values;

function refuse(file: OpenFile, session: DumpSession, reason: { code: string; because: string }): undefined {
  session.refuse(
    new Refusal({
      ...reason,
      process: { pid: file.task.traced.pid, comm: file.task.comm },
      resource: `fd ${file.fd} (fanotify)`,
      remedy: ["Name a directory above it with --irmap-scan-path", "Remove the mark in the program before the dump"],
    }),
  );
  return undefined;
}

/** What the mark is on, in the form of the images. */
function target(
  mark: FanotifyMark,
  file: OpenFile,
  session: DumpSession,
): Pick<FanotifyMarkEntry, "type" | "s_dev" | "ie" | "me"> | undefined {
  const { pid } = file.task.traced;
  if (mark.on === "inode") {
    const watched = { inode: mark.inode ?? 0n, device: mark.device ?? 0, handle: mark.handle };
    const place = findPlace(watched, { pid, session });
    if (place === undefined)
      return refuse(file, session, { code: "WATCHED_FILE_UNKNOWN", because: `no name is known of what it marks, inode ${watched.inode}` });
    return { type: INODE, s_dev: watched.device, ie: { i_ino: watched.inode, f_handle: handleEntry(watched, place) } };
  }
  const device = fromKernelDevice(mark.device ?? 0);
  const mount = readMountinfo(pid).find((m) =>
    mark.on === "mount" ? m.id === mark.mountId : m.devMajor === device.major && m.devMinor === device.minor,
  );
  if (mount === undefined)
    return refuse(file, session, { code: "WATCHED_FILE_UNKNOWN", because: `the ${mark.on} that it marks is not mounted for the process` });
  return { type: mark.on === "mount" ? MOUNT : FILESYSTEM, s_dev: mark.device ?? 0, me: { mnt_id: mount.id, path: mount.mountPoint } };
}

function dumpMark(mark: FanotifyMark, file: OpenFile, session: DumpSession): FanotifyMarkEntry | undefined {
  const on = target(mark, file, session);
  return on === undefined ? undefined : { id: file.id, mflags: mark.flags, mask: mark.mask, ignored_mask: mark.ignoredMask, ...on };
}

/** Path and flags to make a mark with. */
function find(mark: FanotifyMarkEntry, session: RestoreSession): { path: string; flags: number } {
  if (mark.ie !== undefined) {
    const found = findAgain(mark.ie.f_handle, { device: mark.s_dev, session });
    if (found !== undefined) return { path: found.path, flags: found.isLink ? 0 : FAN_MARK_DONT_FOLLOW };
  }
  if (mark.me?.path !== undefined) return { path: mark.me.path, flags: mark.type === MOUNT ? FAN_MARK_MOUNT : FAN_MARK_FILESYSTEM };
  throw new ImageError({
    code: "WATCHED_FILE_GONE",
    place: { file: "files.img", message: "fanotify_mark_entry", field: mark.ie === undefined ? "me" : "ie" },
    because: `what fanotify group ${mark.id} marks (${mark.ie?.f_handle.path ?? `mount ${mark.me?.mnt_id}`}) is not there any more`,
    remedy: ["Put the file back, or dump the process again"],
  });
}

function addMark(fd: Fd, mark: FanotifyMarkEntry, session: RestoreSession): void {
  const { path, flags } = find(mark, session);
  if (mark.mask !== 0) fanotifyMark(fd, path, { flags: FAN_MARK_ADD | flags | (mark.mflags & ~(FAN_MARK_IGNORE | 0x40)), mask: mark.mask });
  if (mark.ignored_mask === 0) return;
  const how = (mark.mflags & FAN_MARK_IGNORE) !== 0 ? mark.mflags : mark.mflags | FAN_MARK_IGNORED_MASK;
  fanotifyMark(fd, path, { flags: FAN_MARK_ADD | flags | how, mask: mark.ignored_mask });
}

/** What is put off until all files are there: opening one that such a mark is on would wait for a process that is being made. */
const isLate = (mark: FanotifyMarkEntry): boolean => decides({ mask: mark.mask, ignoredMask: mark.ignored_mask });

/** A task outside that waits for an answer would be let go by the kernel, whatever the program would have said. */
function refuseWaiting(file: OpenFile, marks: readonly FanotifyMark[], session: DumpSession): void {
  if (!marks.some(decides)) return;
  const waiting = whoWaits();
  if (waiting === undefined) return;
  session.refuse(
    new Refusal({
      code: "FANOTIFY_PERMISSION",
      process: { pid: file.task.traced.pid, comm: file.task.comm },
      resource: `fd ${file.fd} (fanotify)`,
      because: `it decides who may open files, and process ${waiting} waits for an answer`,
      remedy: ["Dump again when nobody waits"],
    }),
  );
}

/** Files that the restore opens when the group decides already. */
function checkLate(entry: FanotifyFileEntry, session: RestoreSession, use: FileUse): Problem[] {
  const places = ["/proc", ...(session.options.pidfile === undefined ? [] : [dirname(session.options.pidfile)])];
  return entry.mark.filter(isLate).flatMap((mark) => {
    const path = mark.ie?.f_handle.path ?? mark.me?.path;
    const place = path === undefined ? undefined : places.find((one) => isSamePlace(mark, { path, place: one }));
    if (place === undefined) return [];
    const because = `it decides who may open files in "${place}", where the restore has to before the process can answer`;
    const remedy: [string] = ["Name another directory (--pidfile), or do without"];
    return [new Refusal({ code: "FANOTIFY_PERMISSION", process: use.process, resource: use.what, because, remedy }, "restore")];
  });
}

/** Whether a mark at `path` is about files in `place`. */
function isSamePlace(mark: FanotifyMarkEntry, { path, place }: { path: string; place: string }): boolean {
  const [marked, asked] = [path, place].map((one) => statSync(one, { bigint: true, throwIfNoEntry: false }));
  if (marked === undefined || asked === undefined || marked.dev !== asked.dev) return false;
  return mark.type !== INODE || marked.ino === asked.ino;
}

export const fanotifies: FileKind<FanotifyFileEntry> = {
  name: "watches/fanotify",
  rows: ["file.fanotify"],
  type: "FANOTIFY",
  field: "ffy",
  isPathless: true,
  matches: ({ link }) => link === FANOTIFY_LINK,
  first: {
    matches: (link) => link === FANOTIFY_LINK,
    look({ task, fd }, session) {
      const info = readFdInfo(task.traced.pid, fd);
      noteGuards(info, session);
      noteListener(FANOTIFY_LINK, info, session);
    },
  },
  dump(file, session) {
    const { flags, eventFlags, marks } = fanotifyInfo(file.info);
    refuseWaiting(file, marks, session);
    const unread = bytesToRead(file.local) > 0;
    const where = session.livesOn ? "stay with it, and are" : "are";
    const then = (flags & FAN_UNLIMITED_QUEUE) !== 0 ? "lost to a restore" : "an overflow after a restore";
    if (unread) session.warn(`fd ${file.fd} of process ${file.task.pid}: fanotify events nobody has read ${where} ${then}`);
    const mark = marks.flatMap((one) => dumpMark(one, file, session) ?? []);
    return {
      id: file.id,
      flags: file.info.flags,
      fown: file.fown,
      faflags: flags,
      evflags: eventFlags,
      mark,
      ...(unread ? { unread } : {}),
    };
  },
  open(entry) {
    // The group keeps the flags it was made with and shows them.
    const fd = fanotifyInit(entry.faflags, entry.evflags);
    setDescriptorFlags(fd, FD_CLOEXEC);
    setStatusFlags(fd, entry.flags | O_NONBLOCK);
    return fd;
  },
  linksLast: true,
  link(entry, { fd, session }) {
    if (entry.unread === true && (entry.faflags & FAN_UNLIMITED_QUEUE) === 0) overflow(fd);
    const queued = bytesToRead(fd);
    for (const mark of entry.mark.filter((one) => !isLate(one))) addMark(fd, mark, session);
    if (queued === 0) drain(fd);
    if (!entry.mark.some(isLate)) setStatusFlags(fd, entry.flags);
  },
  finish(entry, { fd, session }) {
    if (!entry.mark.some(isLate)) return;
    for (const mark of entry.mark.filter(isLate)) addMark(fd, mark, session);
    setStatusFlags(fd, entry.flags);
  },
  check: (entry, session, use) => checkLate(entry, session, use),
};
