/**
 * Terminals. Pairs whose master the tree holds are in pty.ts; here is the terminal of a shell job, which stays outside the
 * images: a restore takes the terminal that Floe itself runs in.
 *
 * Read from   fstat(2), tty ioctls: ioctl_tty(2)
 * Made with   one of our own standard descriptors that is a terminal, opened again through /proc/self/fd; /dev/tty;
 *             TCSETS and TIOCSPGRP, when the job was in the foreground and the restore is
 */
import { statSync } from "node:fs";
import { isatty } from "node:tty";
import { Refusal } from "../../errors.js";
import { fromStatDevice, fromTtyNumber } from "../../linux/device-numbers.js";
import { O_CLOEXEC, O_NOCTTY, openat } from "../../linux/files.js";
import { readStat } from "../../linux/proc/read.js";
import { tcsets, tiocspgrp } from "../../linux/terminals.js";
import { describeFile } from "../files/regular.js";
import { fdTypes, fileEntry } from "../files/table.schema.js";
import type { DumpSession, Fd, FileKind, FileUse, OpenFile, RestoreSession } from "../part.js";
import { PTMX_MAJOR, PTS_MAJOR, PTS_MAJORS, TTYAUX_MAJOR, TTY_MAJOR, infoId, infoOf, modesOf, slaveIndex, terminalKind } from "./info.js";
import { checkInside, closeToOthers, dumpInside, insideIndex, isInside, openInside, setForeground } from "./pty.js";
import { type TtyFileEntry, type TtyInfoEntry, ttyType } from "./tty.schema.js";

const AT_FDCWD = -100;
const S_IFMT = 0o170000n;
const S_IFCHR = 0o020000n;
const STANDARD = [0, 1, 2];

function isTerminal(stat: OpenFile["stat"]): boolean {
  if ((stat.mode & S_IFMT) !== S_IFCHR) return false;
  const { major } = fromStatDevice(stat.rdev);
  return (major >= PTMX_MAJOR && major < PTS_MAJOR + PTS_MAJORS) || major === TTY_MAJOR || major === TTYAUX_MAJOR;
}

export const terminals: FileKind<TtyFileEntry> = {
  name: "ttys/terminal",
  rows: ["mode.shell-job", "tty.pty", "tty.ctty", "tty.console-vt"],
  type: "TTY",
  field: "tty",
  matches: ({ stat }) => isTerminal(stat),
  dump(file, session) {
    const inside = insideIndex(file, session);
    const isDevice = isMachines(file, session);
    const problem = inside === undefined && !isDevice ? refusalOf(file, session) : undefined;
    if (problem !== undefined) {
      session.refuse(problem);
      return undefined;
    }
    const regf_id = session.newFileId();
    const { link: name, fown, stat, info } = file;
    const reg = describeFile({ id: regf_id, name, flags: info.flags, pos: 0n, fown, stat, openPath: name });
    session.images.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.REG, id: regf_id, reg } });
    return {
      id: file.id,
      tty_info_id: inside !== undefined ? dumpInside(file, session, inside) : isDevice ? deviceId(file, session) : outsideId(file, session),
      flags: info.flags,
      fown,
      regf_id,
    };
  },
  open(entry, session) {
    const info = infoOf(entry, session);
    if (info !== undefined && isInside(info, session)) return openInside(entry, info, session);
    const flags = entry.flags | O_CLOEXEC | O_NOCTTY;
    if (info !== undefined && isDeviceOfImage(info)) return openDevice(entry, info, { session, flags });
    if (info?.type === ttyType.values.CTTY) return openat(AT_FDCWD, "/dev/tty", { flags });
    const own = STANDARD.find((fd) => isatty(fd));
    return openat(AT_FDCWD, `/proc/self/fd/${own}`, { flags });
  },
  link(entry, { fd, session }) {
    const info = infoOf(entry, session);
    if (info === undefined) return;
    if (isDeviceOfImage(info)) return;
    if (!isInside(info, session)) return bringToForeground(fd, info, session);
    setForeground(info, session);
    closeToOthers(info, session);
  },
  check(entry, session, use) {
    const info = infoOf(entry, session);
    if (info !== undefined && isInside(info, session)) return checkInside(info, use);
    if (info !== undefined && isDeviceOfImage(info)) return checkDevice(entry, info, { session, use });
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
 * A console or virtual terminal that controls no session of the tree: a device of the machine, as it is when a program writes
 * its messages there. It is opened again by its name; its modes are the machine's own.
 */
function isMachines(file: OpenFile, session: DumpSession): boolean {
  const kind = terminalKind(file.stat);
  if (kind !== "console" && kind !== "virtual") return false;
  const { major, minor } = fromStatDevice(file.stat.rdev);
  return !session.tasks.some(({ stat }) => {
    const own = fromTtyNumber(stat.ttyNr);
    return own.major === major && own.minor === minor;
  });
}

function deviceId(file: OpenFile, session: DumpSession): number {
  return infoId(file, session, { index: undefined, isMaster: false, locked: false, packetMode: false, sid: 0, pgrp: 0 });
}

/** Whether an image speaks of such a device; a terminal that a session has is given with the session's number. */
function isDeviceOfImage(info: TtyInfoEntry): boolean {
  return (info.type === ttyType.values.CONSOLE || info.type === ttyType.values.VT) && info.sid === 0;
}

/** Name of the device, as the entry of its file says. */
function deviceName(entry: TtyFileEntry, session: RestoreSession): string | undefined {
  return session.fileEntry(entry.regf_id ?? 0)?.reg?.name;
}

function openDevice(entry: TtyFileEntry, info: TtyInfoEntry, on: { session: RestoreSession; flags: number }): Fd {
  const name = deviceName(entry, on.session);
  if (name === undefined) throw new Error(`internal error: terminal ${info.id} has no name`);
  return openat(AT_FDCWD, name, { flags: on.flags });
}

function checkDevice(entry: TtyFileEntry, info: TtyInfoEntry, on: { session: RestoreSession; use: FileUse }): Refusal[] {
  const name = deviceName(entry, on.session);
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

/** Only a terminal from outside is carried, and only when the user says that there will be another one. */
function refusalOf(file: OpenFile, session: DumpSession): Refusal | undefined {
  const init = {
    process: { pid: file.task.traced.pid, comm: file.task.comm },
    resource: `fd ${file.fd}, the terminal "${file.link}"`,
  };
  if (session.options.shellJob) return undefined;
  return new Refusal({
    ...init,
    code: "TERMINAL_FROM_OUTSIDE",
    because: "the terminal belongs to a session outside the tree",
    remedy: ["Dump with --shell-job, and restore with --shell-job in the terminal that the job is to have"],
  });
}
