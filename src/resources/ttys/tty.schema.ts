/**
 * Image messages: winsize_entry, termios_entry, tty_pty_entry, tty_data_entry, tty_info_entry, tty_file_entry, TtyType.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const ttyType = enumeration("TtyType", {
  UNKNOWN: 0,
  PTY: 1,
  CONSOLE: 2,
  VT: 3,
  CTTY: 4,
  EXT_TTY: 5,
  SERIAL: 6,
});

export const winsizeEntry = message("winsize_entry", () => ({
  ws_row: required.uint32(1),
  ws_col: required.uint32(2),
  ws_xpixel: required.uint32(3),
  ws_ypixel: required.uint32(4),
}));
export type WinsizeEntry = Infer<typeof winsizeEntry>;

export const termiosEntry = message("termios_entry", () => ({
  c_iflag: required.uint32(1),
  c_oflag: required.uint32(2),
  c_cflag: required.uint32(3),
  c_lflag: required.uint32(4),
  c_line: required.uint32(5),
  c_ispeed: required.uint32(6),
  c_ospeed: required.uint32(7),
  c_cc: repeated.uint32(8),
}));
export type TermiosEntry = Infer<typeof termiosEntry>;

export const ttyPtyEntry = message("tty_pty_entry", () => ({
  index: required.uint32(1),
}));
export type TtyPtyEntry = Infer<typeof ttyPtyEntry>;

export const ttyDataEntry = message("tty_data_entry", () => ({
  tty_id: required.uint32(1),
  data: required.bytes(2),
  /** Floe's own: places in `data` where an end of file (^D) was typed. */
  eofs: repeated.uint32(1000, { floe: true }),
}));
export type TtyDataEntry = Infer<typeof ttyDataEntry>;

export const ttyInfoEntry = message("tty_info_entry", () => ({
  id: required.uint32(1),
  type: required.enum(2, () => ttyType),
  locked: required.bool(3),
  exclusive: required.bool(4),
  packet_mode: required.bool(5),
  sid: required.uint32(6),
  pgrp: required.uint32(7),
  rdev: required.uint32(8),
  termios: optional.message(9, () => termiosEntry),
  termios_locked: optional.message(10, () => termiosEntry),
  winsize: optional.message(11, () => winsizeEntry),
  pty: optional.message(12, () => ttyPtyEntry),
  dev: optional.uint32(13),
  uid: optional.uint32(14),
  gid: optional.uint32(15),
  /** Floe's own: a master whose slave nobody has opened yet. */
  fresh: optional.bool(1000, { floe: true }),
  /** Floe's own, of a master: output of its slave is stopped: 1 by the character for it (^S), 2 by tcflow(3). */
  stopped: optional.uint32(1001, { floe: true }),
  /** Floe's own, of a master in packet mode: what it has not been told yet (TIOCPKT_…). */
  packet_status: optional.uint32(1002, { floe: true }),
}));
export type TtyInfoEntry = Infer<typeof ttyInfoEntry>;

export const ttyFileEntry = message("tty_file_entry", () => ({
  id: required.uint32(1),
  tty_info_id: required.uint32(2),
  flags: required.uint32(3, { hex: true }),
  fown: required.message(4, () => fownEntry),
  regf_id: optional.uint32(6),
}));
export type TtyFileEntry = Infer<typeof ttyFileEntry>;
