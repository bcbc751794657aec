/**
 * Groups of marks on files, mounts and file systems.
 *
 * Read from   fdinfo: flags of the group, one line for each mark
 * Made with   fanotify_init(2), fanotify_mark(2); what the restore itself caused is read away
 */
import { closeSync, readSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import {
  FAN_MARK_ADD,
  FAN_MARK_DONT_FOLLOW,
  FAN_MARK_FILESYSTEM,
  FAN_MARK_IGNORE,
  FAN_MARK_IGNORED_MASK,
  FAN_MARK_MOUNT,
  FAN_PERMISSIONS,
  fanotifyInit,
  fanotifyMark,
} from "../../linux/events.js";
import { FD_CLOEXEC, setDescriptorFlags, setStatusFlags } from "../../linux/fcntl.js";
import { O_NONBLOCK } from "../../linux/files.js";
import { bytesToRead } from "../../linux/pipes.js";
import { type FanotifyMark, fanotifyInfo } from "../../linux/proc/fdinfo-kinds.js";
import { readMountinfo } from "../../linux/proc/read.js";
import { fromKernelDevice } from "../../linux/device-numbers.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import { type FanotifyFileEntry, type FanotifyMarkEntry, markType } from "./fsnotify.schema.js";
import { findAgain, findPlace, handleEntry } from "./places.js";

const { INODE, MOUNT, FILESYSTEM } = markType.values;

function refuse(file: OpenFile, session: DumpSession, reason: { code: string; because: string }): undefined {
  session.refuse(
    new Refusal({
      ...reason,
      process: { pid: file.task.traced.pid, comm: file.task.comm },
      resource: `fd ${file.fd} (fanotify)`,
      remedy: ["Remove the mark in the program before the dump"],
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
  if (((mark.mask | mark.ignoredMask) & FAN_PERMISSIONS) !== 0) {
    return refuse(file, session, {
      code: "FANOTIFY_PERMISSION",
      because: "others wait for its permission to open files, which it cannot give while it is frozen",
    });
  }
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

/** struct fanotify_event_metadata. */
const EVENT_FD_OFFSET = 16;

/** Reads events away; each may bring an open file. `fd` does not block. */
function drain(fd: Fd): void {
  const room = Buffer.alloc(1 << 14);
  while (bytesToRead(fd) > 0) {
    const got = readSync(fd, room, 0, room.length, null);
    for (let at = 0; at < got; at += room.readUInt32LE(at)) {
      const file = room.readInt32LE(at + EVENT_FD_OFFSET);
      if (file >= 0) closeSync(file);
    }
  }
}

export const fanotifies: FileKind<FanotifyFileEntry> = {
  name: "watches/fanotify",
  rows: ["file.fanotify"],
  type: "FANOTIFY",
  field: "ffy",
  matches: ({ link }) => link === "anon_inode:[fanotify]",
  dump(file, session) {
    const { flags, eventFlags, marks } = fanotifyInfo(file.info);
    if (bytesToRead(file.local) > 0) session.warn(`fd ${file.fd} of process ${file.task.pid}: fanotify events nobody has read are lost`);
    const mark = marks.flatMap((one) => dumpMark(one, file, session) ?? []);
    return { id: file.id, flags: file.info.flags, fown: file.fown, faflags: flags, evflags: eventFlags, mark };
  },
  open(entry) {
    // The group keeps the flags it was made with and shows them.
    const fd = fanotifyInit(entry.faflags, entry.evflags);
    setDescriptorFlags(fd, FD_CLOEXEC);
    setStatusFlags(fd, entry.flags | O_NONBLOCK);
    return fd;
  },
  link(entry, { fd, session }) {
    for (const mark of entry.mark) addMark(fd, mark, session);
    drain(fd);
    setStatusFlags(fd, entry.flags);
  },
};
