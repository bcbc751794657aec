/**
 * What the image says of a terminal itself (tty-info), whoever holds it: numbers, modes, window.
 */
import { fromStatDevice } from "../../linux/device-numbers.js";
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

/** What kind of terminal a device is. */
export type TerminalKind = "master" | "slave" | "controlling" | "console" | "virtual" | "other";

export function terminalKind(stat: OpenFile["stat"]): TerminalKind {
  const { major, minor } = fromStatDevice(stat.rdev);
  if (major >= PTS_MAJOR && major < PTS_MAJOR + PTS_MAJORS) return "slave";
  if (major === TTYAUX_MAJOR && minor === PTMX_MINOR) return "master";
  if (major === TTYAUX_MAJOR && minor <= 1) return minor === 0 ? "controlling" : "console";
  return major === TTY_MAJOR && minor < VIRTUAL_TERMINALS ? "virtual" : "other";
}

const TYPES: Partial<Record<TerminalKind, number>> = { controlling: ttyType.values.CTTY, console: ttyType.values.CONSOLE };

/** Index of a pseudo-terminal's slave side by its device. */
export function slaveIndex(stat: OpenFile["stat"]): number {
  const { major, minor } = fromStatDevice(stat.rdev);
  return (major - PTS_MAJOR) * 256 + minor;
}

/** Numbers as CRIU gives them: a pair of terminals has neighbouring ones, the others come behind all pairs. */
const FIRST_OTHER_ID = 2012;

const seen = new WeakMap<DumpSession, Set<number>>();

/** What the caller knows of the terminal beside its device. */
export interface KnownOfTerminal {
  /** Index of the pair; undefined when it is no pseudo-terminal. */
  readonly index: number | undefined;
  readonly isMaster: boolean;
  readonly locked: boolean;
  readonly packetMode: boolean;
  readonly sid: number;
  readonly pgrp: number;
}

/** Writes tty-info once per terminal; returns its number there. */
export function infoId(file: OpenFile, session: DumpSession, known: KnownOfTerminal): number {
  const kind = terminalKind(file.stat);
  const id =
    known.index === undefined
      ? FIRST_OTHER_ID + (kind === "controlling" ? 0 : Number(file.stat.rdev))
      : known.index * 2 + (known.isMaster ? 1 : 0);
  const written = seen.get(session) ?? new Set<number>();
  seen.set(session, written);
  if (written.has(id)) return id;
  written.add(id);
  const { stat } = file;
  const modes = tcgets(file.local);
  session.images.append("TTY_INFO", [], {
    type: ttyInfoEntry,
    value: {
      id,
      type: known.index !== undefined ? ttyType.values.PTY : (TYPES[kind] ?? ttyType.values.VT),
      locked: known.locked,
      exclusive: tiocgexcl(file.local),
      packet_mode: known.packetMode,
      sid: known.sid,
      pgrp: known.pgrp,
      rdev: Number(stat.rdev),
      ...(modes === undefined ? {} : { termios: termiosEntry(modes), termios_locked: termiosEntry(tiocglcktrmios(file.local)) }),
      winsize: windowSize(file.local),
      ...(known.index === undefined ? {} : { pty: { index: known.index } }),
      dev: Number(stat.dev),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
    },
  });
  return id;
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

export function modesOf(entry: TermiosEntry): Termios {
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
