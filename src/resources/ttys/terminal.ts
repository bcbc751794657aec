/**
 * Terminals. Pairs whose master the tree holds are in pty.ts; here is the terminal of a shell job, which stays outside the
 * images: a restore takes the terminal that Floe itself runs in.
 *
 * Read from   fstat(2), tty ioctls: ioctl_tty(2)
 * Made with   one of our own standard descriptors that is a terminal, opened again through /proc/self/fd; /dev/tty;
 *             TCSETS and TIOCSPGRP, when the job was in the foreground and the restore is
 */
import { statSync } from "../../linux/named-files.js";
import { KernelError, Refusal } from "../../errors.js";
import { ERRNO } from "../../linux/errno.js";
import { fromStatDevice, fromTtyNumber, toStatDevice } from "../../linux/device-numbers.js";
import { setStatusFlags } from "../../linux/fcntl.js";
import { AT_FDCWD, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_PATH, openat } from "../../linux/files.js";
import { readStat } from "../../linux/proc/read.js";
import { isatty, tcgets, tcsets, tiocgdev, tiocspgrp } from "../../linux/terminals.js";
import { describeFile } from "../files/regular.js";
import { fdTypes, fileEntry } from "../files/table.schema.js";
import type { DumpSession, DumpTask, Fd, FileKind, FileUse, OpenFile, RestoreSession } from "../part.js";
import {
  PTMX_MAJOR,
  PTS_MAJOR,
  PTS_MAJORS,
  TTYAUX_MAJOR,
  TTY_MAJOR,
  hasInfo,
  hungUpId,
  infoId,
  infoOf,
  isDeviceOfImage,
  isHungUp,
  isMachineKind,
  modesOf,
  slaveIndex,
  terminalKind,
} from "./info.js";
import {
  checkGiven,
  controllingDevice,
  hasLeader,
  isDeviceLeftOutside,
  isLeftOutside,
  isWrittenOutside,
  leftOutsideId,
  notHandedOver,
  outsideNames,
  ownSession,
  sessionOf,
  terminalKey,
} from "./outside.js";
import { checkInside, closeToOthers, dumpInside, hasMaster, insideIndex, isInside, openHungUp, openInside, slaveNumber } from "./pty.js";
import { checkSessions, openInLeader, setForeground, terminalOf } from "./session.js";
import { type TtyFileEntry, type TtyInfoEntry, ttyType } from "./tty.schema.js";

const S_IFMT = 0o170000n;
const S_IFCHR = 0o020000n;
const STANDARD = [0, 1, 2];

function isTerminal(stat: OpenFile["stat"]): boolean {
  if ((stat.mode & S_IFMT) !== S_IFCHR) return false;
  const { major } = fromStatDevice(stat.rdev);
  return (major >= PTMX_MAJOR && major < PTS_MAJOR + PTS_MAJORS) || major === TTY_MAJOR || major === TTYAUX_MAJOR;
}

/** Dumps that have refused an open terminal already. */
const refused = new WeakSet<DumpSession>();

/** How an open terminal is carried: with its master, as a device of the machine, by somebody's /dev/tty, or left outside. */
type Way = { readonly way: "pair"; readonly index: number } | { readonly way: "device" | "controlling" | "job" | "external" | "hung up" };

export const terminals: FileKind<TtyFileEntry> = {
  name: "ttys/terminal",
  rows: ["mode.shell-job", "tty.pty", "tty.ctty", "tty.console-vt"],
  type: "TTY",
  field: "tty",
  // An O_PATH descriptor is of a name; that of a slave comes with its pair.
  matches: ({ stat, info }) => isTerminal(stat) && ((info.flags & O_PATH) === 0 || terminalKind(stat) === "slave"),
  dump(file, session) {
    const way = wayOf(file, session);
    if (way === undefined) {
      refused.add(session);
      session.refuse(refusalOf(file));
      return undefined;
    }
    const { fown, stat, info } = file;
    const name = way.way === "hung up" && file.link.endsWith(DELETED) ? file.link.slice(0, -DELETED.length) : file.link;
    const entry = { id: file.id, tty_info_id: writeInfo(file, session, way), flags: info.flags, fown };
    if (way.way === "external") return entry;
    const regf_id = session.newFileId();
    const reg = describeFile({ id: regf_id, name, flags: info.flags, pos: 0n, fown, stat, openPath: name });
    session.images.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.REG, id: regf_id, reg } });
    return { ...entry, regf_id };
  },
  open(entry, session) {
    const info = infoOf(entry, session);
    if (info !== undefined && isInside(info, session)) return openInside(entry, info, session);
    if (info !== undefined && isOfSession(info, session)) return openInLeader(entry, info, session);
    if (info !== undefined && isHungUp(info)) return openHungUp(entry, info, session);
    const flags = entry.flags | O_CLOEXEC | O_NOCTTY;
    if (info !== undefined && isDeviceOfImage(info, session)) return openDevice(entry, info, { session, flags });
    if (info?.type === ttyType.values.CTTY) return openat(AT_FDCWD, "/dev/tty", { flags });
    const own = STANDARD.find((fd) => isatty(fd));
    return openat(AT_FDCWD, `/proc/self/fd/${own}`, { flags });
  },
  link(entry, { fd, session }) {
    const info = infoOf(entry, session);
    if (info === undefined || isHungUp(info)) return;
    setForeground(info, session);
    if (isInside(info, session)) return closeToOthers(info, session);
    if (!isOfSession(info, session) && !isDeviceOfImage(info, session)) bringToForeground(fd, info, session);
  },
  outside: {
    names: (entry, session) => outsideNames(infoOf(entry, session)),
    flags: ({ flags }) => flags,
    check(entry, given) {
      const info = infoOf(entry, given.session);
      return info === undefined ? [] : checkGiven(info, given);
    },
  },
  check(entry, session, use) {
    const info = infoOf(entry, session);
    if (info !== undefined && isInside(info, session)) return checkInside(info, use);
    if (info !== undefined && isDeviceOfImage(info, session)) return checkDevice(entry, info, { session, use });
    if (info?.type === ttyType.values.EXT_TTY) return [notHandedOver(info, use)];
    if (info !== undefined && isHungUp(info)) return [];
    if (info !== undefined && isOfSession(info, session)) return [];
    const refuse = (because: string, remedy: string) => [
      new Refusal(
        { code: "TERMINAL_FROM_OUTSIDE", process: use.process, resource: use.what.replace("file", "terminal"), because, remedy: [remedy] },
        "restore",
      ),
    ];
    if (!session.options.shellJob)
      return refuse("the terminal was not part of the dumped tree", "Give the job the present terminal with --shell-job");
    if (STANDARD.some((fd) => isatty(fd))) return [];
    return refuse("there is no terminal to give to the job", "Run the restore in a terminal");
  },
};

/** A slave whose master is closed answers EIO to everything; so does one that was hung up (vhangup(2)), though there is a master. */
function hasHungUp({ local }: OpenFile): boolean {
  try {
    tcgets(local);
    return false;
  } catch (error) {
    if (error instanceof KernelError && error.errno === ERRNO.EIO) return true;
    throw error;
  }
}
const DELETED = " (deleted)";

function wayOf(file: OpenFile, session: DumpSession): Way | undefined {
  if (isLeftOutside(file, session)) return { way: "external" };
  if (terminalKind(file.stat) === "controlling") {
    if (isCarried(file.task, session)) return { way: "controlling" };
  } else {
    if (terminalKind(file.stat) === "slave" && (file.info.flags & O_PATH) === 0 && hasHungUp(file)) return { way: "hung up" };
    const index = insideIndex(file, session);
    if (index !== undefined) return { way: "pair", index };
    if (isMachines(file, session)) return { way: "device" };
  }
  return session.options.shellJob ? { way: "job" } : undefined;
}

/** Whether the session of a task gets back its terminal. */
function isCarried(task: DumpTask, session: DumpSession): boolean {
  const rdev = controllingDevice(task);
  if (rdev === 0n || !hasLeader(task, session)) return false;
  const index = slaveNumber(rdev);
  return (index !== undefined && hasMaster(index, session)) || isDeviceLeftOutside(rdev, session) || isMachineKind(terminalKind({ rdev }));
}

function writeInfo(file: OpenFile, session: DumpSession, way: Way): number {
  const nothing = { index: undefined, isMaster: false, locked: false, packetMode: false };
  switch (way.way) {
    case "external":
      return leftOutsideId(file, session);
    case "pair":
      return dumpInside(file, session, way.index);
    case "device":
      return infoId(file, session, { ...nothing, ...sessionOf(deviceBehind(file, session), session) });
    case "controlling":
      return infoId(file, session, { ...nothing, ...ownSession(file.task, session) });
    case "hung up":
      return hungUpId(file, session);
    case "job":
      return outsideId(file, session);
  }
}

/** Looks for sessions of the tree whose terminal would be lost. */
export function dumpSessions(session: DumpSession): void {
  if (refused.has(session)) return;
  checkSessions(session, (rdev) => {
    if (isDeviceLeftOutside(rdev, session)) return isWrittenOutside(rdev, session);
    return isMachineKind(terminalKind({ rdev })) && hasSession(rdev, session);
  });
}

/** Whether a device has been written down as the terminal of its session: through its own name, or as the console. */
function hasSession(rdev: bigint, session: DumpSession): boolean {
  return hasInfo(session, (key) => key === `device ${rdev}` || behind.get(session)?.get(key) === rdev);
}

/** Whether an image's /dev/tty is that of a session of the images, which has its terminal by then. */
function isOfSession(info: TtyInfoEntry, session: RestoreSession): boolean {
  return info.type === ttyType.values.CTTY && terminalOf(info.sid, session) !== undefined;
}

/**
 * Modes and foreground belong together: the job gets both if it had them, and if they are ours to give. A terminal's modes
 * while a job was in the background were the shell's. The window's size is the window's.
 */
function bringToForeground(fd: Fd, info: TtyInfoEntry, session: RestoreSession): void {
  const wasForeground = session.tasks.some((task) => readStat(task.traced.pid).pgrp === info.pgrp);
  const own = readStat(process.pid);
  if (!wasForeground || own.tpgid !== own.pgrp) return;
  if (info.termios !== undefined) tcsets(fd, modesOf(info.termios));
  tiocspgrp(fd, info.pgrp);
}

/** The number of a terminal from outside; the session that has it is the holder's. */
function outsideId(file: OpenFile, session: DumpSession): number {
  const index = terminalKind(file.stat) === "slave" ? slaveIndex(file.stat) : undefined;
  const { stat } = file.task;
  return infoId(file, session, {
    index,
    isMaster: false,
    locked: false,
    packetMode: false,
    sid: stat.session,
    pgrp: Math.max(0, stat.tpgid),
  });
}

/**
 * A console, virtual terminal or serial line that controls no session outside the tree: a device of the machine, as it is when
 * a program writes its messages there. It is opened again by its name; its modes are the machine's own, unless a session of
 * the tree has it.
 */
function isMachines(file: OpenFile, session: DumpSession): boolean {
  if (!isMachineKind(terminalKind(file.stat))) return false;
  const device = deviceBehind(file, session);
  const users = session.tasks.filter((task) => controllingDevice(task) === device);
  return users.every((task) => hasLeader(task, session));
}

/** The terminal that a device leads to: a console and /dev/tty0 lead to others. */
function deviceBehind(file: OpenFile, session: DumpSession): bigint {
  const found = toStatDevice(fromTtyNumber(tiocgdev(file.local)));
  const known = behind.get(session) ?? new Map<string, bigint>();
  behind.set(session, known.set(`device ${file.stat.rdev}`, found));
  return found;
}

const behind = new WeakMap<DumpSession, Map<string, bigint>>();

/** Name of the device, as the entry of its file says. */
function nodeName(entry: TtyFileEntry, session: RestoreSession): string | undefined {
  return session.fileEntry(entry.regf_id ?? 0)?.reg?.name;
}

function openDevice(entry: TtyFileEntry, info: TtyInfoEntry, on: { session: RestoreSession; flags: number }): Fd {
  const name = nodeName(entry, on.session);
  if (name === undefined) throw new Error(`internal error: terminal ${info.id} has no name`);
  // Opening a serial line would wait for a carrier.
  const fd = openat(AT_FDCWD, name, { flags: on.flags | O_NONBLOCK });
  setStatusFlags(fd, entry.flags);
  if (info.sid !== 0 && info.termios !== undefined) tcsets(fd, modesOf(info.termios));
  return fd;
}

function checkDevice(entry: TtyFileEntry, info: TtyInfoEntry, on: { session: RestoreSession; use: FileUse }): Refusal[] {
  const name = nodeName(entry, on.session);
  const found = name === undefined ? undefined : statSync(name, { throwIfNoEntry: false });
  if (found?.isCharacterDevice() === true && found.rdev === info.rdev) return [];
  return [
    new Refusal(
      {
        code: "TERMINAL_FROM_OUTSIDE",
        process: on.use.process,
        resource: on.use.what.replace("file", "terminal"),
        because: `${name === undefined ? "its device" : `"${name}"`} is not on this machine, or is another one`,
        remedy: ["Restore on a machine that has this console or virtual terminal"],
      },
      "restore",
    ),
  ];
}

/** A terminal from outside is carried only when the user says what it is to be. */
function refusalOf(file: OpenFile): Refusal {
  const key = terminalKey(file.stat);
  const isByName = terminalKind(file.stat) !== "controlling";
  return new Refusal({
    process: { pid: file.task.traced.pid, comm: file.task.comm },
    resource: `fd ${file.fd}, the terminal "${file.link}"`,
    code: "TERMINAL_FROM_OUTSIDE",
    because:
      terminalKind(file.stat) === "slave" ? "its master side is outside the tree" : "the terminal belongs to a session outside the tree",
    remedy: [
      "Dump with --shell-job, and restore with --shell-job in the terminal that the job is to have",
      ...(isByName ? [`Leave it outside with --external ${key}, and hand over another at the restore: --inherit-fd fd[N]:${key}`] : []),
      "Dump the tree together with the process that holds the master side",
    ],
  });
}
