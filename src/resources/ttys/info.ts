/**
 * What the image says of a terminal itself (tty-info), whoever holds it: numbers, modes, window.
 */
import { fromStatDevice } from "../../linux/device-numbers.js";
import type { StoppedBy } from "../../linux/kernel-terminals.js";
import { NCCS, type Termios, tcgets, tiocgexcl, tiocglcktrmios, tiocgwinsz } from "../../linux/terminals.js";
import type { DumpSession, OpenFile, RestoreSession } from "../part.js";
import { type TermiosEntry, type TtyFileEntry, type TtyInfoEntry, ttyInfoEntry, ttyType } from "./tty.schema.js";

/** Documentation/admin-guide/devices.txt: pty masters, pty slaves, /dev/tty and console, virtual and serial terminals. */
export const PTMX_MAJOR = 128;
export const PTS_MAJOR = 136;
export const PTS_MAJORS = 8;
export const TTY_MAJOR = 4;
export const TTYAUX_MAJOR = 5;
const PTMX_MINOR = 2;
/** Minors from here on are serial lines. */
const VIRTUAL_TERMINALS = 64;

/** Device 5:2, /dev/ptmx, as stat(2) packs it. */
export const PTMX_RDEV = 0x502;
export const PTS_PER_MAJOR = 256;

/** What kind of terminal a device is. */
export type TerminalKind = "master" | "slave" | "controlling" | "console" | "virtual" | "serial" | "other";

type Device = Pick<OpenFile["stat"], "rdev">;

export function terminalKind(stat: Device): TerminalKind {
  const { major, minor } = fromStatDevice(stat.rdev);
  if (major >= PTS_MAJOR && major < PTS_MAJOR + PTS_MAJORS) return "slave";
  if (major === TTYAUX_MAJOR && minor === PTMX_MINOR) return "master";
  if (major === TTYAUX_MAJOR && minor <= 1) return minor === 0 ? "controlling" : "console";
  return major !== TTY_MAJOR ? "other" : minor < VIRTUAL_TERMINALS ? "virtual" : "serial";
}

const TYPES: Partial<Record<TerminalKind, TtyInfoEntry["type"]>> = {
  controlling: ttyType.values.CTTY,
  console: ttyType.values.CONSOLE,
  serial: ttyType.values.SERIAL,
};

/** Whether a device is one of the machine: a console, a virtual terminal, a serial line. */
export function isMachineKind(kind: TerminalKind): boolean {
  return kind === "console" || kind === "virtual" || kind === "serial";
}

/** Whether an image speaks of such a device, and of no session outside the images. */
export function isDeviceOfImage(info: TtyInfoEntry, session: RestoreSession): boolean {
  const { CONSOLE, VT, SERIAL } = ttyType.values;
  return [CONSOLE, VT, SERIAL].some((type) => type === info.type) && (info.sid === 0 || session.task(info.sid) !== undefined);
}

/** Where a device of the machine is found. */
export function deviceName(info: Device | TtyInfoEntry): string {
  const { minor } = fromStatDevice(BigInt(info.rdev));
  const kind = terminalKind({ rdev: BigInt(info.rdev) });
  return kind === "console" ? "/dev/console" : kind === "virtual" ? `/dev/tty${minor}` : `/dev/ttyS${minor - VIRTUAL_TERMINALS}`;
}

/** Index of a pseudo-terminal's slave side by its device. */
export function slaveIndex(stat: Device): number {
  const { major, minor } = fromStatDevice(stat.rdev);
  return (major - PTS_MAJOR) * PTS_PER_MAJOR + minor;
}

/**
 * Numbers as CRIU gives them: a pair of terminals has neighbouring ones, the others have even ones behind all pairs. CRIU keeps
 * its books in a table of some thousand of them and does not bear greater ones.
 */
const OTHER_IDS: Partial<Record<TerminalKind, number>> = { console: 2004, virtual: 2008, controlling: 2012 };
const FIRST_FREE_ID = 2026;

/** What one dump has numbered and written. */
interface Numbers {
  readonly written: Set<number>;
  /** By kind and device, of terminals that are no pairs. */
  readonly others: Map<string, number>;
}

const numbers = new WeakMap<DumpSession, Numbers>();

function numbersOf(session: DumpSession): Numbers {
  const known = numbers.get(session) ?? { written: new Set(), others: new Map() };
  numbers.set(session, known);
  return known;
}

/** Whether a terminal left outside or another one that is no pair has its info; `key` its name, or `device RDEV`. */
export function hasInfo(session: DumpSession, isThis: (key: string) => boolean): boolean {
  return [...numbersOf(session).others.keys()].some(isThis);
}

/** What the caller knows of the terminal beside its device. */
export interface KnownOfTerminal {
  /** For one that is left outside: what it is called. */
  readonly external?: string;
  /** Index of the pair; undefined when it is no pseudo-terminal. */
  readonly index: number | undefined;
  readonly isMaster: boolean;
  readonly locked: boolean;
  readonly packetMode: boolean;
  /** Of a master: nobody has opened its slave yet. */
  readonly isFresh?: boolean;
  /** Of a master: who has stopped the output of its slave. */
  readonly stopped?: StoppedBy | undefined;
  /** Of a master in packet mode: what it has not been told yet. */
  readonly packetStatus?: number | undefined;
  readonly sid: number;
  readonly pgrp: number;
}

/** What is needed of an open terminal. */
export type OpenTerminal = Pick<OpenFile, "stat" | "local">;

function idOf({ stat }: OpenTerminal, known: KnownOfTerminal, session: DumpSession): number {
  if (known.index !== undefined) return known.index * 2 + (known.isMaster ? 1 : 0);
  const { others } = numbersOf(session);
  const kind = terminalKind(stat);
  const key = known.external ?? (kind === "controlling" ? `controlling ${known.sid}` : `device ${stat.rdev}`);
  const used = new Set(others.values());
  let id = others.get(key) ?? (known.external === undefined ? OTHER_IDS[kind] : undefined) ?? FIRST_FREE_ID;
  while (others.get(key) === undefined && used.has(id)) id = id < FIRST_FREE_ID ? FIRST_FREE_ID : id + 2;
  others.set(key, id);
  return id;
}

function typeOf({ stat }: OpenTerminal, known: KnownOfTerminal): TtyInfoEntry["type"] {
  if (known.external !== undefined) return ttyType.values.EXT_TTY;
  return known.index !== undefined ? ttyType.values.PTY : (TYPES[terminalKind(stat)] ?? ttyType.values.VT);
}

/** Writes tty-info once per terminal; returns its number there. */
export function infoId(file: OpenTerminal, session: DumpSession, known: KnownOfTerminal): number {
  const id = idOf(file, known, session);
  const { written } = numbersOf(session);
  if (written.has(id)) return id;
  written.add(id);
  const { stat } = file;
  const modes = tcgets(file.local);
  session.images.append("TTY_INFO", [], {
    type: ttyInfoEntry,
    value: {
      id,
      type: typeOf(file, known),
      locked: known.locked,
      exclusive: tiocgexcl(file.local),
      packet_mode: known.packetMode,
      sid: known.sid,
      pgrp: known.pgrp,
      rdev: Number(stat.rdev),
      ...(modes === undefined ? {} : { termios: termiosEntry(modes), termios_locked: termiosEntry(tiocglcktrmios(file.local)) }),
      winsize: windowSize(file.local),
      ...(known.isFresh === true ? { fresh: true } : {}),
      ...(known.stopped === undefined ? {} : { stopped: known.stopped === "typing" ? 1 : 2 }),
      ...(known.packetStatus === undefined || known.packetStatus === 0 ? {} : { packet_status: known.packetStatus }),
      ...(known.index === undefined ? {} : { pty: { index: known.index } }),
      dev: Number(stat.dev),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
    },
  });
  return id;
}

/** Writes the info of a slave that has hung up: it has nothing but its number. */
export function hungUpId(file: OpenTerminal, session: DumpSession): number {
  const index = slaveIndex(file.stat);
  const none = { isMaster: false, locked: false, packetMode: false, sid: 0, pgrp: 0 };
  // Another pair may have its number by now.
  const id = idOf(file, { ...none, index: undefined, external: `hung up ${index}` }, session);
  const { written } = numbersOf(session);
  if (written.has(id)) return id;
  written.add(id);
  const { rdev, dev, uid, gid } = file.stat;
  const numbersOnly = { rdev: Number(rdev), dev: Number(dev), uid: Number(uid), gid: Number(gid) };
  const off = { locked: false, exclusive: false, packet_mode: false, sid: 0, pgrp: 0 };
  session.images.append("TTY_INFO", [], {
    type: ttyInfoEntry,
    value: { id, type: ttyType.values.PTY, ...off, ...numbersOnly, pty: { index } },
  });
  return id;
}

/** Whether an image's terminal is a slave that has hung up. */
export function isHungUp(info: TtyInfoEntry): boolean {
  return info.type === ttyType.values.PTY && info.termios === undefined && info.rdev !== PTMX_RDEV;
}

/** The terminal that a file shows. */
export function infoOf(entry: TtyFileEntry, session: RestoreSession): TtyInfoEntry | undefined {
  return terminalInfos(session).find((info) => info.id === entry.tty_info_id);
}

const read = new WeakMap<RestoreSession, readonly TtyInfoEntry[]>();

/** All terminals of the images. */
export function terminalInfos(session: RestoreSession): readonly TtyInfoEntry[] {
  let infos = read.get(session);
  if (infos === undefined) {
    infos = session.images.records("TTY_INFO", [], ttyInfoEntry).map((r) => r.value);
    read.set(session, infos);
  }
  return infos;
}

export function termiosEntry(modes: Termios): TermiosEntry {
  return {
    c_iflag: modes.iflag,
    c_oflag: modes.oflag,
    c_cflag: modes.cflag,
    c_lflag: modes.lflag,
    c_line: modes.line,
    c_ispeed: modes.speeds?.input ?? 0,
    c_ospeed: modes.speeds?.output ?? 0,
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

export function modesOf(entry: TermiosEntry): Termios {
  return {
    iflag: entry.c_iflag,
    oflag: entry.c_oflag,
    cflag: entry.c_cflag,
    lflag: entry.c_lflag,
    line: entry.c_line,
    cc: fromWords(entry.c_cc),
    speeds: { input: entry.c_ispeed, output: entry.c_ospeed },
  };
}

function windowSize(fd: number) {
  const size = tiocgwinsz(fd);
  return { ws_row: size.rows, ws_col: size.columns, ws_xpixel: size.xPixels, ws_ypixel: size.yPixels };
}
