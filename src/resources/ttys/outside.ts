/**
 * The terminal of a shell job: it stays outside the images, and a restore takes the terminal that Floe itself runs in.
 *
 * Read from   fstat(2), tty ioctls: ioctl_tty(2)
 * Made with   one of our own standard descriptors that is a terminal, opened again through /proc/self/fd; /dev/tty;
 *             TCSETS and TIOCSPGRP, when the job was in the foreground and the restore is
 */
import { isatty } from "node:tty";
import { Refusal } from "../../errors.js";
import { fromStatDevice } from "../../linux/device-numbers.js";
import { O_CLOEXEC, O_NOCTTY, openat } from "../../linux/files.js";
import { readStat } from "../../linux/proc/read.js";
import { NCCS, type Termios, tcgets, tcsets, tiocgexcl, tiocglcktrmios, tiocgwinsz, tiocspgrp } from "../../linux/terminals.js";
import { describeFile } from "../files/regular.js";
import { fdTypes, fileEntry } from "../files/table.schema.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import { type TermiosEntry, type TtyFileEntry, type TtyInfoEntry, ttyInfoEntry, ttyType } from "./tty.schema.js";

const AT_FDCWD = -100;
const S_IFMT = 0o170000n;
const S_IFCHR = 0o020000n;
/** Documentation/admin-guide/devices.txt: pty masters, pty slaves, /dev/tty and console, virtual and serial terminals. */
const PTMX_MAJOR = 128;
const PTS_MAJOR = 136;
const PTS_MAJORS = 8;
const TTY_MAJOR = 4;
const TTYAUX_MAJOR = 5;
const STANDARD = [0, 1, 2];

const seen = new WeakMap<DumpSession, Map<bigint, number>>();

function isTerminal(stat: OpenFile["stat"]): boolean {
  if ((stat.mode & S_IFMT) !== S_IFCHR) return false;
  const { major } = fromStatDevice(stat.rdev);
  return (major >= PTMX_MAJOR && major < PTS_MAJOR + PTS_MAJORS) || major === TTY_MAJOR || major === TTYAUX_MAJOR;
}

export const terminals: FileKind<TtyFileEntry> = {
  name: "ttys/outside",
  rows: ["mode.shell-job"],
  type: "TTY",
  field: "tty",
  matches: ({ stat }) => isTerminal(stat),
  dump(file, session) {
    const problem = refusalOf(file, session);
    if (problem !== undefined) {
      session.refuse(problem);
      return undefined;
    }
    const regf_id = session.newFileId();
    const { link: name, fown, stat, info } = file;
    const reg = describeFile({ id: regf_id, name, flags: info.flags, pos: 0n, fown, stat, openPath: name });
    session.images.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.REG, id: regf_id, reg } });
    return { id: file.id, tty_info_id: infoId(file, session), flags: info.flags, fown, regf_id };
  },
  open(entry, session) {
    const flags = entry.flags | O_CLOEXEC | O_NOCTTY;
    if (infoOf(entry, session)?.type === ttyType.values.CTTY) return openat(AT_FDCWD, "/dev/tty", { flags });
    const own = STANDARD.find((fd) => isatty(fd));
    return openat(AT_FDCWD, `/proc/self/fd/${own}`, { flags });
  },
  link(entry, { fd, session }) {
    const info = infoOf(entry, session);
    if (info !== undefined) bringToForeground(fd, info, session);
  },
  check(_entry, session, use) {
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

function infoOf(entry: TtyFileEntry, session: RestoreSession): TtyInfoEntry | undefined {
  return session.images.records("TTY_INFO", [], ttyInfoEntry).find(({ value }) => value.id === entry.tty_info_id)?.value;
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

/** Only a terminal from outside is carried, and only when the user says that there will be another one. */
function refusalOf(file: OpenFile, session: DumpSession): Refusal | undefined {
  const init = {
    process: { pid: file.task.traced.pid, comm: file.task.comm },
    resource: `fd ${file.fd}, the terminal "${file.link}"`,
  };
  const { major, minor } = fromStatDevice(file.stat.rdev);
  if ((major === TTYAUX_MAJOR && minor === 2) || major === PTMX_MAJOR) {
    return new Refusal({
      ...init,
      code: "TERMINAL_INSIDE",
      because: "it is the master side of a pseudo-terminal, and pseudo-terminals of the tree itself are not carried yet",
      remedy: ["Dump the job that runs in the terminal instead of the program that provides it, with --shell-job"],
    });
  }
  if (session.options.shellJob) return undefined;
  return new Refusal({
    ...init,
    code: "TERMINAL_FROM_OUTSIDE",
    because: "the terminal belongs to a session outside the tree",
    remedy: ["Dump with --shell-job, and restore with --shell-job in the terminal that the job is to have"],
  });
}

/** Writes tty-info once per terminal; returns its number there. */
function infoId(file: OpenFile, session: DumpSession): number {
  const terminals = seen.get(session) ?? new Map<bigint, number>();
  seen.set(session, terminals);
  const known = terminals.get(file.stat.rdev);
  if (known !== undefined) return known;
  const id = terminals.size;
  terminals.set(file.stat.rdev, id);
  const { major, minor } = fromStatDevice(file.stat.rdev);
  const isControlling = major === TTYAUX_MAJOR && minor === 0;
  const isPts = major >= PTS_MAJOR && major < PTS_MAJOR + PTS_MAJORS;
  const { stat, task } = file;
  const modes = tcgets(file.local);
  session.images.append("TTY_INFO", [], {
    type: ttyInfoEntry,
    value: {
      id,
      type: isPts ? ttyType.values.PTY : isControlling ? ttyType.values.CTTY : ttyType.values.VT,
      locked: false,
      exclusive: tiocgexcl(file.local),
      packet_mode: false,
      sid: task.stat.session,
      pgrp: Math.max(0, task.stat.tpgid),
      rdev: Number(stat.rdev),
      ...(modes === undefined ? {} : { termios: termiosEntry(modes), termios_locked: termiosEntry(tiocglcktrmios(file.local)) }),
      winsize: windowSize(file.local),
      ...(isPts ? { pty: { index: (major - PTS_MAJOR) * 256 + minor } } : {}),
      dev: Number(stat.dev),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
    },
  });
  return id;
}

function termiosEntry(modes: Termios): TermiosEntry {
  return {
    c_iflag: modes.iflag,
    c_oflag: modes.oflag,
    c_cflag: modes.cflag,
    c_lflag: modes.lflag,
    c_line: modes.line,
    c_ispeed: 0,
    c_ospeed: 0,
    c_cc: toWords(modes.cc),
  };
}

/**
 * Control characters as CRIU's images have them: as many 32-bit words as there are characters, the first of which hold
 * four characters each, and the others nothing that means anything.
 */
function toWords(cc: Buffer): number[] {
  const bytes = Buffer.alloc(NCCS * 4);
  cc.copy(bytes, 0, 0, NCCS);
  return Array.from({ length: NCCS }, (_, i) => bytes.readUInt32LE(i * 4));
}

function fromWords(words: readonly number[]): Buffer {
  const bytes = Buffer.alloc(NCCS * 4);
  words.slice(0, NCCS).forEach((word, i) => bytes.writeUInt32LE(word, i * 4));
  return bytes.subarray(0, NCCS);
}

function modesOf(entry: TermiosEntry): Termios {
  return {
    iflag: entry.c_iflag,
    oflag: entry.c_oflag,
    cflag: entry.c_cflag,
    lflag: entry.c_lflag,
    line: entry.c_line,
    cc: fromWords(entry.c_cc),
  };
}

function windowSize(fd: number) {
  const size = tiocgwinsz(fd);
  return { ws_row: size.rows, ws_col: size.columns, ws_xpixel: size.xPixels, ws_ypixel: size.yPixels };
}
