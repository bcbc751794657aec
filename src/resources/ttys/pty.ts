/**
 * Pseudo-terminals whose master side is held by the tree itself: both sides come back, with the same number.
 *
 * Read from   fdinfo (tty-index), ioctl_tty(2), stat (which session has it); unread bytes by read(2), and put back
 * Made with   /dev/ptmx until the number is right, TIOCGPTPEER, TCSETS, TIOCSWINSZ; TIOCSCTTY right after setsid(2), so that
 *             children inherit it; TIOCSPGRP when every process exists
 */
import { chmodSync, chownSync, closeSync, existsSync, readlinkSync, readSync, writeSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { fromTtyNumber } from "../../linux/device-numbers.js";
import { FD_CLOEXEC, dupFrom, setDescriptorFlags, setStatusFlags } from "../../linux/fcntl.js";
import { O_CLOEXEC, O_LARGEFILE, O_NOCTTY, O_NONBLOCK, O_RDWR, openat } from "../../linux/files.js";
import { bytesToRead } from "../../linux/pipes.js";
import { fdInfoField } from "../../linux/proc/fdinfo.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import {
  type Termios,
  tcgets,
  tcsets,
  tiocexcl,
  tiocgpkt,
  tiocgptlck,
  tiocgptn,
  tiocgptpeer,
  tiocpkt,
  tiocsptlck,
  tiocswinsz,
} from "../../linux/terminals.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { TracedTask } from "../../target/thread.js";
import type { DumpSession, Fd, FileUse, OpenFile, Problem, RestoreSession } from "../part.js";
import { PTS_MAJOR, infoId, modesOf, slaveIndex, terminalInfos, terminalKind } from "./info.js";
import { type TtyFileEntry, type TtyInfoEntry, ttyDataEntry, ttyType } from "./tty.schema.js";

const AT_FDCWD = -100;
/** Device 5:2, /dev/ptmx, as stat(2) packs it. */
const PTMX_RDEV = 0x502;
const TIOCSCTTY = 0x540e;
const TIOCSPGRP = 0x5410;
/** Pseudo-terminals that may be opened on the way to the wanted number. */
const MAX_TRIES = 4096;
/** asm-generic/termbits-common.h, termbits.h */
/** BRKINT, PARMRK, ISTRIP, INLCR, IGNCR, ICRNL, IUCLC, IXON, IXOFF. */
const INPUT_CHANGES = 0o2 | 0o10 | 0o40 | 0o100 | 0o200 | 0o400 | 0o1000 | 0o2000 | 0o10000;
const OPOST = 0o1;
const ISIG = 0o1;
/** ECHO, ECHOE, ECHOK, ECHONL, ECHOCTL, ECHOPRT, ECHOKE. */
const ECHOES = 0o10 | 0o20 | 0o40 | 0o100 | 0o1000 | 0o2000 | 0o4000;
const IEXTEN = 0o100000;

/** Masters that the tree holds, by index of the pair. */
const masters = new WeakMap<DumpSession, ReadonlySet<number>>();

function mastersInTree(session: DumpSession): ReadonlySet<number> {
  let found = masters.get(session);
  if (found === undefined) {
    found = new Set(session.tasks.flatMap((task) => mastersOf(task.traced.pid)));
    masters.set(session, found);
  }
  return found;
}

function mastersOf(pid: number): number[] {
  return readFdNumbers(pid).flatMap((fd) => {
    if (!/^\/dev\/(pts\/)?ptmx$/.test(readlinkSync(`/proc/${pid}/fd/${fd}`))) return [];
    const index = fdInfoField(readFdInfo(pid, fd), "tty-index");
    return index === undefined ? [] : [Number(index)];
  });
}

/** Index of the pair that an open terminal of the tree belongs to, if its master is in the tree too. */
export function insideIndex(file: OpenFile, session: DumpSession): number | undefined {
  const kind = terminalKind(file.stat);
  if (kind === "master") return tiocgptn(file.local);
  const index = kind === "slave" ? slaveIndex(file.stat) : kind === "controlling" ? controllingIndex(file) : undefined;
  return index !== undefined && mastersInTree(session).has(index) ? index : undefined;
}

/** The pseudo-terminal behind a task's /dev/tty. */
function controllingIndex(file: OpenFile): number | undefined {
  const { major, minor } = fromTtyNumber(file.task.stat.ttyNr);
  return major === PTS_MAJOR ? minor : undefined;
}

/** The session that has pseudo-terminal `index`, and its foreground group; zeros when nobody has it. */
function ownersOf(index: number, session: DumpSession): { sid: number; pgrp: number } {
  const member = session.tasks.find(({ stat }) => {
    const { major, minor } = fromTtyNumber(stat.ttyNr);
    return major === PTS_MAJOR && minor === index;
  });
  return member === undefined ? { sid: 0, pgrp: 0 } : { sid: member.stat.session, pgrp: Math.max(0, member.stat.tpgid) };
}

/** Number of the terminal's info; writes it, and bytes that nobody has read yet. */
export function dumpInside(file: OpenFile, session: DumpSession, index: number): number {
  const kind = terminalKind(file.stat);
  const isMaster = kind === "master";
  const owners = ownersOf(index, session);
  if (kind === "controlling")
    return infoId(file, session, { index: undefined, isMaster: false, locked: false, packetMode: false, ...owners });
  const known = { index, isMaster, locked: isMaster && tiocgptlck(file.local), packetMode: isMaster && tiocgpkt(file.local), ...owners };
  const id = infoId(file, session, known);
  if (bytesToRead(file.local) > 0) saveUnread(file, session, { id, packetMode: known.packetMode });
  return id;
}

const dataSaved = new WeakMap<DumpSession, Set<number>>();

/** There is no way to look at a terminal's queue: what was read is put back through the other side at once. */
function saveUnread(file: OpenFile, session: DumpSession, { id, packetMode }: { id: number; packetMode: boolean }): void {
  const saved = dataSaved.get(session) ?? new Set<number>();
  dataSaved.set(session, saved);
  if (saved.has(id)) return;
  saved.add(id);
  const refuse = (because: string) =>
    session.refuse(
      new Refusal({
        code: "TERMINAL_HAS_DATA",
        process: { pid: file.task.traced.pid, comm: file.task.comm },
        resource: `fd ${file.fd}, the terminal "${file.link}"`,
        because,
        remedy: ["Dump again a moment later"],
      }),
    );
  if (packetMode) {
    refuse("it holds unread bytes in packet mode, which cannot be read and put back");
    return;
  }
  const other = otherSide(file, session);
  if (other === undefined) {
    refuse("it holds unread bytes, and there is no other side through which they could be put back");
    return;
  }
  try {
    const data = readAll(file.local);
    putBack(data, {
      into: other,
      isInput: terminalKind(file.stat) !== "master",
      slave: terminalKind(file.stat) === "master" ? other : file.local,
    });
    session.images.append("TTY_DATA", [], { type: ttyDataEntry, value: { tty_id: id, data } });
  } finally {
    closeSync(other);
  }
}

function readAll(fd: Fd): Buffer {
  const pieces: Buffer[] = [];
  for (let left = bytesToRead(fd); left > 0; left = bytesToRead(fd)) {
    const piece = Buffer.alloc(left);
    pieces.push(piece.subarray(0, readSync(fd, piece)));
  }
  return Buffer.concat(pieces);
}

/** A descriptor of ours for the other side of a pair: for a master its slave, for a slave the master that a task holds. */
function otherSide(file: OpenFile, session: DumpSession): Fd | undefined {
  if (terminalKind(file.stat) === "master") return tiocgptpeer(file.local, O_RDWR | O_NOCTTY | O_CLOEXEC);
  const index = slaveIndex(file.stat);
  for (const { traced } of session.tasks) {
    for (const fd of readFdNumbers(traced.pid)) {
      if (!/^\/dev\/(pts\/)?ptmx$/.test(readlinkSync(`/proc/${traced.pid}/fd/${fd}`))) continue;
      if (Number(fdInfoField(readFdInfo(traced.pid, fd), "tty-index")) !== index) continue;
      const pidfd = pidfdOpen(traced.pid);
      try {
        return pidfdGetfd(pidfd, fd);
      } finally {
        closeSync(pidfd);
      }
    }
  }
  return undefined;
}

/** Puts bytes into one side so that they come out at the other unchanged, with the line divisions they had. */
function putBack(data: Buffer, to: { into: Fd; isInput: boolean; slave: Fd }): void {
  const modes = tcgets(to.slave);
  if (modes === undefined) return;
  tcsets(to.slave, to.isInput ? plainInput(modes) : { ...modes, oflag: modes.oflag & ~OPOST });
  try {
    for (let at = 0; at < data.length; ) at += writeSync(to.into, data, at);
  } finally {
    tcsets(to.slave, modes);
  }
}

/** Modes in which what is typed is taken as it is; lines stay lines. */
function plainInput(modes: Termios): Termios {
  return {
    ...modes,
    iflag: modes.iflag & ~INPUT_CHANGES,
    lflag: modes.lflag & ~(ISIG | ECHOES | IEXTEN),
    cc: Buffer.alloc(modes.cc.length),
  };
}

/** Whether a terminal of the images is one of a pair whose master is in the images. */
export function isInside(info: TtyInfoEntry, session: RestoreSession): boolean {
  const infos = terminalInfos(session);
  if (info.type === ttyType.values.CTTY) return info.sid !== 0 && infos.some((i) => i.rdev === PTMX_RDEV && i.sid === info.sid);
  return info.pty !== undefined && infos.some((i) => i.rdev === PTMX_RDEV && i.pty?.index === info.pty?.index);
}

/** What certainly goes wrong: the number is somebody else's. */
export function checkInside(info: TtyInfoEntry, use: FileUse): Problem[] {
  const index = info.pty?.index;
  if (index === undefined || !existsSync(`/dev/pts/${index}`)) return [];
  const init = {
    code: "TERMINAL_TAKEN",
    process: use.process,
    resource: use.what.replace("file", "terminal"),
    because: `the name /dev/pts/${index} is in use`,
    remedy: ["Close the terminal that has it", "Restore where /dev/pts is another one: in a mount namespace with its own devpts"] as const,
  };
  return [new Refusal({ ...init, remedy: [...init.remedy] }, "restore")];
}

/** A pair that has been made, as we hold it. */
interface Pair {
  readonly master: Fd;
  readonly slave: Fd;
}

const pairs = new WeakMap<RestoreSession, Map<number, Pair>>();

/** The pair of number `index`; made on first use, with its modes, window and unread bytes. */
function pairOf(index: number, session: RestoreSession): Pair {
  const made = pairs.get(session) ?? new Map<number, Pair>();
  pairs.set(session, made);
  let pair = made.get(index);
  if (pair === undefined) {
    pair = makePair(index);
    session.closeLater(pair.master);
    session.closeLater(pair.slave);
    made.set(index, pair);
    const infos = terminalInfos(session).filter((i) => i.pty?.index === index);
    for (const info of infos) setUp(pair, info, session);
  }
  return pair;
}

/** The kernel gives the lowest free number, so others are held until the wanted one comes. */
function makePair(index: number): Pair {
  const spare: Fd[] = [];
  try {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const master = openat(AT_FDCWD, "/dev/ptmx", { flags: O_RDWR | O_NOCTTY | O_CLOEXEC });
      const got = tiocgptn(master);
      if (got === index) {
        tiocsptlck(master, false);
        return { master, slave: tiocgptpeer(master, O_RDWR | O_NOCTTY | O_CLOEXEC) };
      }
      spare.push(master);
      if (got > index) break;
    }
  } finally {
    for (const fd of spare) closeSync(fd);
  }
  throw new Error(`cannot make pseudo-terminal /dev/pts/${index}: the number is in use`);
}

function setUp(pair: Pair, info: TtyInfoEntry, session: RestoreSession): void {
  const isMaster = info.rdev === PTMX_RDEV;
  const data = session.images.records("TTY_DATA", [], ttyDataEntry).find((r) => r.value.tty_id === info.id)?.value.data;
  if (data !== undefined) putBack(Buffer.from(data), { into: isMaster ? pair.slave : pair.master, isInput: !isMaster, slave: pair.slave });
  if (info.termios !== undefined) tcsets(pair.slave, modesOf(info.termios));
  const { winsize } = info;
  if (winsize !== undefined) {
    tiocswinsz(pair.slave, { rows: winsize.ws_row, columns: winsize.ws_col, xPixels: winsize.ws_xpixel, yPixels: winsize.ws_ypixel });
  }
  if (isMaster) {
    if (info.packet_mode) tiocpkt(pair.master, true);
  } else {
    chownSync(`/dev/pts/${info.pty?.index}`, info.uid ?? 0, info.gid ?? 0);
  }
}

/** Opens one side of a pair; /dev/tty is opened by the leader of the session whose terminal it is. */
export function openInside(entry: TtyFileEntry, info: TtyInfoEntry, session: RestoreSession): Fd {
  if (info.type === ttyType.values.CTTY) return openInLeader(entry, info, session);
  const index = info.pty?.index ?? 0;
  const pair = pairOf(index, session);
  const flags = entry.flags | O_NOCTTY | O_CLOEXEC;
  if (info.rdev !== PTMX_RDEV) {
    const mode = session.fileEntry(entry.regf_id ?? 0)?.reg?.mode;
    if (mode !== undefined) chmodSync(`/dev/pts/${index}`, mode & 0o7777);
    // What TIOCGPTPEER opened has no O_LARGEFILE; what was opened by its name has.
    return (entry.flags & O_LARGEFILE) === 0 ? openPeer(pair.master, entry.flags) : openat(AT_FDCWD, `/dev/pts/${index}`, { flags });
  }
  // A master is one description only: the one that made the pair.
  const fd = dupFrom(pair.master, 0);
  setStatusFlags(fd, entry.flags);
  return fd;
}

/** Unlike open(2), TIOCGPTPEER would keep O_CLOEXEC among the flags that F_GETFL tells. */
function openPeer(master: Fd, flags: number): Fd {
  const fd = tiocgptpeer(master, flags | O_NOCTTY);
  setDescriptorFlags(fd, FD_CLOEXEC);
  return fd;
}

function openInLeader(entry: TtyFileEntry, info: TtyInfoEntry, session: RestoreSession): Fd {
  const leader = session.task(info.sid)?.traced;
  if (leader === undefined) throw new Error(`internal error: session ${info.sid} has no leader to open /dev/tty`);
  const program = new Program();
  const opened = program
    .call(SYS.openat, AT_FDCWD, program.cstring("/dev/tty"), entry.flags | O_CLOEXEC | O_NONBLOCK, 0)
    .must("opening /dev/tty");
  run(leader.leader, program);
  const pidfd = pidfdOpen(leader.pid);
  try {
    const fd = pidfdGetfd(pidfd, Number(opened.value));
    setStatusFlags(fd, entry.flags);
    return fd;
  } finally {
    closeSync(pidfd);
    closeRemote(leader.leader, [Number(opened.value)]);
  }
}

/** Gives a new session its terminal, if it had one of the tree; its future children inherit it. */
export function takeTerminal(leader: TracedTask, sid: number, session: RestoreSession): void {
  const info = terminalInfos(session).find((i) => i.rdev === PTMX_RDEV && i.sid === sid);
  if (info?.pty === undefined) return;
  withSlave(leader, pairOf(info.pty.index, session), (fd) => {
    const program = new Program();
    program.call(SYS.ioctl, fd, TIOCSCTTY, 0).must(`giving session ${sid} its terminal`);
    run(leader.leader, program);
  });
}

/** Sets the foreground group, as a member of the session; all signals are blocked there, so nobody is stopped for it. */
export function setForeground(info: TtyInfoEntry, session: RestoreSession): void {
  const leader = session.task(info.sid)?.traced;
  if (info.rdev !== PTMX_RDEV || info.pty === undefined || leader === undefined || info.pgrp === 0) return;
  withSlave(leader, pairOf(info.pty.index, session), (fd) => {
    const program = new Program();
    const group = program.bytes(Buffer.alloc(4));
    group.content.writeInt32LE(info.pgrp, 0);
    program.call(SYS.ioctl, fd, TIOCSPGRP, group).must(`putting group ${info.pgrp} into the foreground`);
    run(leader.leader, program);
  });
}

function withSlave(task: TracedTask, pair: Pair, action: (fd: number) => void): void {
  const [fd] = handOver(task.leader, [pair.slave]) as [number];
  try {
    action(fd);
  } finally {
    closeRemote(task.leader, [fd]);
  }
}

/** Last changes to a terminal, when everybody has opened it: exclusive use and the lock. */
export function closeToOthers(info: TtyInfoEntry, session: RestoreSession): void {
  if (info.pty === undefined || !isInside(info, session)) return;
  const pair = pairOf(info.pty.index, session);
  if (info.exclusive) tiocexcl(info.rdev === PTMX_RDEV ? pair.master : pair.slave);
  if (info.locked && info.rdev === PTMX_RDEV) tiocsptlck(pair.master, true);
}
