/**
 * The queue of a fanotify group: reading events away, and making it overflow.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { FAN_MARK_ADD, FAN_MARK_FILESYSTEM, FAN_MARK_REMOVE, FAN_OPEN, fanotifyMark } from "../../linux/events.js";
import { bytesToRead } from "../../linux/pipes.js";
import { privateTmpfs } from "../../linux/private-tmpfs.js";
import { readSysctl } from "../../linux/proc/read.js";
import type { Fd } from "../part.js";

/** struct fanotify_event_metadata, and struct fanotify_event_info_header behind it. */
const METADATA_BYTES = 24;
const METADATA_LENGTH_OFFSET = 6;
const EVENT_FD_OFFSET = 16;
const INFO_HEAD_BYTES = 4;
const FAN_EVENT_INFO_TYPE_PIDFD = 4;
const ROOM_BYTES = 1 << 14;

/** Closes what the events in `bytes` bring: an open file, a pidfd. */
function closeFiles(bytes: Buffer): void {
  for (let at = 0; at + METADATA_BYTES <= bytes.length; at += bytes.readUInt32LE(at)) {
    const file = bytes.readInt32LE(at + EVENT_FD_OFFSET);
    if (file >= 0) closeSync(file);
    const end = at + bytes.readUInt32LE(at);
    for (let info = at + bytes.readUInt16LE(at + METADATA_LENGTH_OFFSET); info + 2 * INFO_HEAD_BYTES <= end; ) {
      const pidfd = bytes.readInt32LE(info + INFO_HEAD_BYTES);
      if (bytes[info] === FAN_EVENT_INFO_TYPE_PIDFD && pidfd >= 0) closeSync(pidfd);
      info += Math.max(INFO_HEAD_BYTES, bytes.readUInt16LE(info + 2));
    }
  }
}

/** Reads all events away. `fd` does not block. */
export function drain(fd: Fd): void {
  const room = Buffer.alloc(ROOM_BYTES);
  while (bytesToRead(fd) > 0) closeFiles(room.subarray(0, readSync(fd, room, 0, room.length, null)));
}

/**
 * Puts a FAN_Q_OVERFLOW into the empty queue of a group that has no marks yet, as the kernel does when as many events are in it
 * as may be: opened files of ours, each another one, since events of one file become one. All but the last are read away.
 */
export function overflow(fd: Fd): void {
  const limit = Number(readSysctl("fs/fanotify/max_queued_events") ?? 16384n);
  const root = privateTmpfs();
  try {
    const mark = { flags: FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask: FAN_OPEN };
    fanotifyMark(fd, `/proc/self/fd/${root}`, mark);
    for (let i = 0; i <= limit; i++) closeSync(openSync(`/proc/self/fd/${root}/${i}`, "w"));
    fanotifyMark(fd, `/proc/self/fd/${root}`, { ...mark, flags: FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM });
    takeFirst(fd, limit);
  } finally {
    closeSync(root);
  }
}

/** Reads `count` events, which are all of one length, and no more. */
function takeFirst(fd: Fd, count: number): void {
  const first = Buffer.alloc(ROOM_BYTES);
  let length = METADATA_BYTES;
  for (let got = 0; got === 0; ) {
    try {
      got = readSync(fd, first, 0, length, null);
    } catch (error) {
      // EINVAL: an event is longer than that.
      if ((error as NodeJS.ErrnoException).code !== "EINVAL" || length >= ROOM_BYTES) throw error;
      length += 4;
    }
  }
  closeFiles(first.subarray(0, length));
  const room = Buffer.alloc(length * Math.floor(ROOM_BYTES / length));
  for (let left = count - 1; left > 0; ) {
    const got = readSync(fd, room, 0, Math.min(room.length, left * length), null);
    closeFiles(room.subarray(0, got));
    left -= Math.floor(got / length);
  }
}
