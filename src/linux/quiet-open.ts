/**
 * Opening a file without anybody being told: neither inotify(7), nor fanotify(7), nor F_NOTIFY tells of the opening, nor of what is
 * read by the descriptor, nor of its close; nor does the time of last access change.
 *
 * The kernel gives such descriptors (FMODE_NONOTIFY) to fanotify groups, with their events. So a group of our own asks to decide about
 * the file, a thread of ours opens it, and is refused: what is refused has not been opened, and is told to nobody. What came with the
 * question is the descriptor. Should we die in between, the kernel lets everybody go on who waits for an answer of ours.
 *
 * Needs CAP_SYS_ADMIN, and a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS. Of devices, fifos and sockets the kernel does not ask.
 *
 * Constants: uapi/linux/fanotify.h.
 */
import { closeSync, fstatSync, readSync, writeSync } from "node:fs";
import { KernelError } from "../errors.js";
import { FAN_MARK_ADD, fanotifyInit, fanotifyMark } from "./events.js";
import { AT_FDCWD, O_CLOEXEC, O_LARGEFILE, O_NOATIME, O_PATH, O_RDONLY, openat } from "./files.js";
import { LaneWork, Lanes, type RunningLanes, nativeFunction } from "./lanes.js";
import { POLLIN, poll } from "./streams.js";
import { cstring } from "./text.js";

const FAN_CLOEXEC = 0x1;
const FAN_NONBLOCK = 0x2;
/** Groups of this class are asked before all others. */
const FAN_CLASS_PRE_CONTENT = 0x8;
const FAN_OPEN_PERM = 0x1_0000;
const FAN_ONDIR = 0x4000_0000;
const FAN_ALLOW = 1;
const FAN_DENY = 2;

/** struct fanotify_event_metadata: its length in bytes, and where members are. */
const EVENT_BYTES = 24;
const EVENT = { length: 0, fd: 16, pid: 20 };
/** struct fanotify_response */
const RESPONSE_BYTES = 8;
const ROOM_BYTES = 4096;
/** The thread asks as soon as it runs. When it has not for as long, the kernel does not ask about such a file. */
const STEP_MS = 20;
const MOST_STEPS = 250;

/** A descriptor of a regular file or directory, for reading; undefined where there is none to be had, and then nobody was told either. */
export function openQuietly(path: string): number | undefined {
  let held: number | undefined;
  try {
    // From here on it is this very file, whatever the path leads to meanwhile.
    held = openat(AT_FDCWD, path, { flags: O_PATH | O_CLOEXEC });
    const stat = fstatSync(held);
    return stat.isFile() || stat.isDirectory() ? askAbout(`/proc/self/fd/${held}`) : undefined;
  } catch (error) {
    if (!(error instanceof KernelError) && (error as NodeJS.ErrnoException).code === undefined) throw error;
    return undefined;
  } finally {
    if (held !== undefined) closeSync(held);
  }
}

/** Lets a thread open the file; the descriptor that comes with the question whether it may. */
function askAbout(path: string): number | undefined {
  const group = fanotifyInit(FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC | O_NOATIME | O_LARGEFILE);
  using lanes = new Lanes({ areaBytes: 1, count: 2 });
  const work = new LaneWork();
  work.group();
  const call = work.call(nativeFunction("openat"), AT_FDCWD, cstring(path), O_RDONLY | O_CLOEXEC);
  let running: RunningLanes | undefined;
  let found: number | undefined;
  try {
    fanotifyMark(group, path, { flags: FAN_MARK_ADD, mask: FAN_OPEN_PERM | FAN_ONDIR });
    running = lanes.startBeside(work);
    for (let steps = 0; running !== undefined && found === undefined && work.resultInt(call) === 0 && steps < MOST_STEPS; steps++) {
      const [events = 0] = poll([{ fd: group, events: POLLIN }], STEP_MS);
      if ((events & POLLIN) !== 0) found = answer(group);
    }
  } finally {
    // The kernel allows whatever nobody has answered, so nobody waits for us from here on, our thread least of all.
    closeBeside(group);
    running?.join();
  }
  const opened = work.resultInt(call);
  if (opened > 0) closeSync(opened);
  return found;
}

/** Threads that close groups: the kernel takes some 8 ms to be rid of one, since it waits until nobody can be at its marks any more. */
const closing: { readonly lanes: Lanes; readonly running: RunningLanes; readonly isDone: () => boolean }[] = [];
const MOST_CLOSING = 32;

/** Closes the group without waiting for that. */
function closeBeside(group: number): void {
  while (closing.length > 0 && (closing.length >= MOST_CLOSING || closing[0]?.isDone() === true)) {
    const oldest = closing.shift();
    oldest?.running.join();
    oldest?.lanes.close();
  }
  const lanes = new Lanes({ areaBytes: 1, count: 2 });
  const work = new LaneWork();
  work.group();
  work.call(nativeFunction("close"), group);
  const last = work.call(nativeFunction("getpid"));
  const running = lanes.startBeside(work);
  if (running !== undefined) {
    closing.push({ lanes, running, isDone: () => work.resultInt(last) !== 0 });
    return;
  }
  lanes.close();
  closeSync(group);
}

/** Answers what waits: ours is refused, and its descriptor kept; others go on. */
function answer(group: number): number | undefined {
  const room = Buffer.alloc(ROOM_BYTES);
  const got = readSync(group, room, 0, ROOM_BYTES, null);
  let found: number | undefined;
  for (let at = 0; at + EVENT_BYTES <= got; at += Math.max(EVENT_BYTES, room.readUInt32LE(at + EVENT.length))) {
    const fd = room.readInt32LE(at + EVENT.fd);
    if (fd < 0) continue;
    const isOurs = found === undefined && room.readInt32LE(at + EVENT.pid) === process.pid;
    const response = Buffer.alloc(RESPONSE_BYTES);
    response.writeInt32LE(fd, 0);
    response.writeUInt32LE(isOurs ? FAN_DENY : FAN_ALLOW, 4);
    writeSync(group, response);
    if (isOurs) found = fd;
    else closeSync(fd);
  }
  return found;
}
