/**
 * Pseudo-terminals whose master side is held by the tree itself: both sides come back, with the same number.
 *
 * Read from   fdinfo (tty-index), ioctl_tty(2), stat (which session has it); unread bytes by read(2), and put back
 * Made with   /dev/ptmx until the number is right, TIOCGPTPEER, TCSETS, TIOCSWINSZ; whose terminal it is: session.ts
 */
import { closeSync } from "node:fs";
import { chmodSync, chownSync, existsSync, readlinkSync, statSync } from "../../linux/named-files.js";
import { Refusal } from "../../errors.js";
import { toStatDevice } from "../../linux/device-numbers.js";
import { FD_CLOEXEC, dupFrom, setDescriptorFlags, setStatusFlags } from "../../linux/fcntl.js";
import { AT_FDCWD, O_CLOEXEC, O_LARGEFILE, O_NOCTTY, O_PATH, O_RDWR, openat } from "../../linux/files.js";
import { fdInfoField } from "../../linux/proc/fdinfo.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";
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
  tiocslcktrmios,
  tiocsptlck,
  tiocswinsz,
  tiocvhangup,
} from "../../linux/terminals.js";
import { isExternal } from "../files/inherit.js";
import type { DumpSession, Fd, FileUse, OpenFile, Problem, RestoreSession } from "../part.js";
import { PTMX_RDEV, PTS_MAJOR, PTS_PER_MAJOR, infoId, isHungUp, modesOf, slaveIndex, terminalInfos, terminalKind } from "./info.js";
import { controllingDevice, isDeviceLeftOutside, sessionOf, terminalKey } from "./outside.js";
import { isFresh, refillQueue, saveQueues, stopOutput } from "./queues.js";
import { fileEntry } from "../files/table.schema.js";
import { comesLater, isToldOfStop, tellFlushed, tellRest } from "./packet-status.js";
import { type TtyDataEntry, type TtyFileEntry, type TtyInfoEntry, ttyDataEntry, ttyType } from "./tty.schema.js";

/** Pseudo-terminals that may be opened on the way to the wanted number. */
const MAX_TRIES = 4096;
/** Masters that the tree holds, by index of the pair. */
const masters = new WeakMap<DumpSession, ReadonlySet<number>>();

function mastersInTree(session: DumpSession): ReadonlySet<number> {
  let found = masters.get(session);
  if (found === undefined) {
    found = new Set(session.tasks.flatMap((task) => mastersOf(task.traced.pid, session)));
    masters.set(session, found);
  }
  return found;
}

function mastersOf(pid: number, session: DumpSession): number[] {
  return readFdNumbers(pid).flatMap((fd) => {
    const path = `/proc/${pid}/fd/${fd}`;
    if (!/^\/dev\/(pts\/)?ptmx$/.test(readlinkSync(path))) return [];
    if (isDeviceLeftOutside(BigInt(PTMX_RDEV), session) && isExternal(terminalKey(statSync(path, { bigint: true })), session)) return [];
    const index = fdInfoField(readFdInfo(pid, fd), "tty-index");
    return index === undefined ? [] : [Number(index)];
  });
}

/** Index of the pair that an open terminal of the tree belongs to, if its master is in the tree too. */
export function insideIndex(file: OpenFile, session: DumpSession): number | undefined {
  const kind = terminalKind(file.stat);
  if (kind === "master") return tiocgptn(file.local);
  const index = kind === "slave" ? slaveIndex(file.stat) : kind === "controlling" ? slaveNumber(controllingDevice(file.task)) : undefined;
  return index !== undefined && hasMaster(index, session) ? index : undefined;
}

/** Index of the pair by the device of its slave side; undefined: it is another kind of device. */
export function slaveNumber(rdev: bigint): number | undefined {
  return terminalKind({ rdev }) === "slave" ? slaveIndex({ rdev }) : undefined;
}

/** Whether the tree holds the master of pair `index`, or a restore is to make one for somebody outside. */
export function hasMaster(index: number, session: DumpSession): boolean {
  return session.options.orphanPtsMaster === true || mastersInTree(session).has(index);
}

/** Number of the terminal's info; writes it, and bytes that nobody has read yet. */
export function dumpInside(file: OpenFile, session: DumpSession, index: number): number {
  const kind = terminalKind(file.stat);
  const isMaster = kind === "master";
  const owners = sessionOf(slaveDevice(index), session);
  if (!isMaster) return infoId(file, session, { index, isMaster, locked: false, packetMode: false, ...owners });
  const packetMode = tiocgpkt(file.local);
  const master = { file, index, slave: slaveDevice(index), packetMode, isSlaveHeld: isSlaveHeld(index, session) };
  const locked = tiocgptlck(file.local);
  const saved = saveQueues(master, session);
  return infoId(file, session, { index, isMaster, locked, packetMode, ...saved, isFresh: isFresh(master), ...owners });
}

/** Device of the slave side of pair `index`, as stat(2) has it. */
function slaveDevice(index: number): bigint {
  return toStatDevice({ major: PTS_MAJOR + Math.floor(index / PTS_PER_MAJOR), minor: index % PTS_PER_MAJOR });
}

const held = new WeakMap<DumpSession, ReadonlySet<number>>();

/** Whether a process of the tree has the slave side of pair `index` open. */
function isSlaveHeld(index: number, session: DumpSession): boolean {
  const all = held.get(session) ?? new Set(session.tasks.flatMap(({ traced }) => slavesOf(traced.pid)));
  held.set(session, all);
  return all.has(index);
}

function slavesOf(pid: number): number[] {
  return readFdNumbers(pid).flatMap((fd) => {
    const path = `/proc/${pid}/fd/${fd}`;
    if (!readlinkSync(path).startsWith("/dev/")) return [];
    return slaveNumber(statSync(path, { bigint: true }).rdev) ?? [];
  });
}

/** Whether a terminal of the images is one of a pair that is to be made. */
export function isInside(info: TtyInfoEntry, session: RestoreSession): boolean {
  if (info.pty === undefined || info.type !== ttyType.values.PTY || isHungUp(info)) return false;
  return session.options.takeOrphanMaster !== undefined || hasMasterInImages(info.pty.index, session);
}

function hasMasterInImages(index: number, session: RestoreSession): boolean {
  return terminalInfos(session).some((i) => i.rdev === PTMX_RDEV && i.pty?.index === index);
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
  /** Slaves that have hung up, by id of their file. */
  readonly hungUp: ReadonlyMap<number, Fd>;
}

const pairs = new WeakMap<RestoreSession, Map<number, Pair>>();

/** The pair of number `index`; made on first use, with its modes, window and unread bytes. */
export function pairOf(index: number, session: RestoreSession): Pair {
  const made = pairs.get(session) ?? new Map<number, Pair>();
  pairs.set(session, made);
  let pair = made.get(index);
  if (pair === undefined) {
    pair = makePair(
      index,
      terminalInfos(session).some((i) => i.fresh === true && i.pty?.index === index),
      hungUpFiles(index, session),
    );
    for (const fd of [pair.master, pair.slave, ...pair.hungUp.values()]) session.closeLater(fd);
    made.set(index, pair);
    // The tree has no master: it is for whoever asked for it.
    if (!hasMasterInImages(index, session)) session.options.takeOrphanMaster?.({ fd: dupFrom(pair.master, 0), index });
    const infos = terminalInfos(session).filter((i) => i.pty?.index === index);
    for (const info of infos) setUp(pair, info, session);
    for (const info of infos) stopAndTell(pair, info, session);
  }
  return pair;
}

/** Slaves of pair `index` that have hung up. */
function hungUpFiles(index: number, session: RestoreSession): TtyFileEntry[] {
  const ids = terminalInfos(session).flatMap((info) => (isHungUp(info) && info.pty?.index === index ? [info.id] : []));
  if (ids.length === 0) return [];
  return session.images
    .records("FILES", [], fileEntry)
    .flatMap(({ value: { tty } }) => (tty && ids.includes(tty.tty_info_id) ? [tty] : []));
}

/** Opens slaves and hangs them up, before anybody else has that side open. */
function hangUp(master: Fd, files: readonly TtyFileEntry[]): Map<number, Fd> {
  const opened = new Map(files.map(({ id, flags }) => [id, openPeer(master, flags)]));
  for (const fd of [...opened.values()].slice(0, 1)) tiocvhangup(fd);
  return opened;
}

/** The kernel gives the lowest free number, so others are held until the wanted one comes. */
function makePair(index: number, staysClosed: boolean, hungUp: readonly TtyFileEntry[] = []): Pair {
  const spare: Fd[] = [];
  try {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const master = openat(AT_FDCWD, "/dev/ptmx", { flags: O_RDWR | O_NOCTTY | O_CLOEXEC });
      const got = tiocgptn(master);
      if (got === index) {
        tiocsptlck(master, false);
        // Modes and window of the slave can be set through the master.
        if (staysClosed) return { master, slave: dupFrom(master, 0), hungUp: new Map() };
        return { master, hungUp: hangUp(master, hungUp), slave: tiocgptpeer(master, O_RDWR | O_NOCTTY | O_CLOEXEC) };
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
  const modes = info.termios === undefined ? undefined : modesOf(info.termios);
  if (modes !== undefined) tcsets(pair.slave, modes);
  const data = dataOf(info.id, session);
  const status = statusOf(info.pty?.index, session);
  if (data !== undefined && !comesLater(status, isMaster ? "output" : "input"))
    refillQueue({ ...pair, modes: modes ?? currentModes(pair.slave) }, data, !isMaster);
  const { winsize } = info;
  if (winsize !== undefined) {
    tiocswinsz(pair.slave, { rows: winsize.ws_row, columns: winsize.ws_col, xPixels: winsize.ws_xpixel, yPixels: winsize.ws_ypixel });
  }
  if (!isMaster) chownSync(`/dev/pts/${info.pty?.index}`, info.uid ?? 0, info.gid ?? 0);
}

function dataOf(id: number, session: RestoreSession): TtyDataEntry | undefined {
  return session.images.records("TTY_DATA", [], ttyDataEntry).find((r) => r.value.tty_id === id)?.value;
}

/** What the master of pair `index` has to be told. */
function statusOf(index: number | undefined, session: RestoreSession): number {
  return terminalInfos(session).find((i) => i.rdev === PTMX_RDEV && i.pty?.index === index)?.packet_status ?? 0;
}

/** Stops output before packet mode is on, which would tell of it, or behind that, where it is to be told. */
function stopAndTell(pair: Pair, info: TtyInfoEntry, session: RestoreSession): void {
  const modes = currentModes(pair.slave);
  const status = info.packet_status ?? 0;
  const stop = () => {
    const isStopped = info.stopped === undefined || stopOutput({ ...pair, modes }, info.stopped === 1 ? "typing" : "call");
    if (!isStopped) session.warn(`terminal /dev/pts/${info.pty?.index}: its output was stopped, and is not any more`);
  };
  if (!isToldOfStop(status)) stop();
  if (info.rdev !== PTMX_RDEV || !info.packet_mode) return;
  tiocpkt(pair.master, true);
  if (status === 0) return;
  tellFlushed(pair.slave, status);
  for (const side of ["input", "output"] as const) {
    const data = dataOf(side === "input" ? info.id - 1 : info.id, session);
    if (data !== undefined && comesLater(status, side)) refillQueue({ ...pair, modes, keepsFlow: true }, data, side === "input");
  }
  if (isToldOfStop(status)) stop();
  tellRest(pair.slave, status, modes);
}

/** One that hung up while there is a master; else a slave whose master closes at once, with its old number if nobody else has it. */
export function openHungUp(entry: TtyFileEntry, info: TtyInfoEntry, session: RestoreSession): Fd {
  const index = info.pty?.index ?? 0;
  const known = hasMasterInImages(index, session) ? pairOf(index, session).hungUp.get(entry.id) : undefined;
  if (known !== undefined) return dupFrom(known, 0);
  const master = existsSync(`/dev/pts/${index}`) ? newMaster() : masterOf(index);
  try {
    return openPeer(master, entry.flags);
  } finally {
    closeSync(master);
  }
}

function masterOf(index: number): Fd {
  const { master, slave } = makePair(index, true);
  closeSync(slave);
  return master;
}

function newMaster(): Fd {
  const master = openat(AT_FDCWD, "/dev/ptmx", { flags: O_RDWR | O_NOCTTY | O_CLOEXEC });
  tiocsptlck(master, false);
  return master;
}

function currentModes(slave: Fd): Termios {
  const modes = tcgets(slave);
  if (modes === undefined) throw new Error("internal error: a pseudo-terminal is no terminal");
  return modes;
}

/** Opens one side of a pair. */
export function openInside(entry: TtyFileEntry, info: TtyInfoEntry, session: RestoreSession): Fd {
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
  const fd = tiocgptpeer(master, (flags & O_PATH) === 0 ? flags | O_NOCTTY : flags);
  setDescriptorFlags(fd, FD_CLOEXEC);
  return fd;
}

/** Last changes to a terminal, when everybody has opened it: locked modes, exclusive use and the lock. */
export function closeToOthers(info: TtyInfoEntry, session: RestoreSession): void {
  if (info.pty === undefined || !isInside(info, session)) return;
  const pair = pairOf(info.pty.index, session);
  const { termios_locked: locks } = info;
  if (locks !== undefined && (locks.c_iflag | locks.c_oflag | locks.c_cflag | locks.c_lflag) !== 0)
    tiocslcktrmios(pair.slave, modesOf(locks));
  if (info.exclusive) tiocexcl(info.rdev === PTMX_RDEV ? pair.master : pair.slave);
  if (info.locked && info.rdev === PTMX_RDEV) tiocsptlck(pair.master, true);
}
