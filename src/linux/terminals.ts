/**
 * ioctl_tty(2), one function per request: modes, sizes, groups, pseudo-terminals.
 *
 * Source: uapi/asm-generic/ioctls.h, uapi/asm-generic/termbits.h, uapi/asm-generic/termios.h.
 */
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const TCGETS = 0x5401;
export const TCSETS = 0x5402;
const TIOCEXCL = 0x540c;
/** Stops and starts output: tcflow(3). */
export const TCXONC = 0x540a;
export const [TCOOFF, TCOON] = [0, 1];
const TCFLSH = 0x540b;
export const [TCIFLUSH, TCOFLUSH] = [0, 1];
export const TIOCSCTTY = 0x540e;
const TIOCGPGRP = 0x540f;
export const TIOCSPGRP = 0x5410;
const TIOCGWINSZ = 0x5413;
const TIOCSWINSZ = 0x5414;
const TIOCNOTTY = 0x5422;
export const TIOCPKT = 0x5420;
const TIOCGSID = 0x5429;
/** _IOR and _IOW('T', 0x2a and 0x2b, struct termios2). */
const TCGETS2 = 0x802c_542a;
const TCSETS2 = 0x402c_542b;
/** asm-generic/termbits.h: the speed is a number of its own, for output and (shifted) for input. */
const CBAUD = 0o10017;
const BOTHER = 0o10000;
const IBSHIFT = 16;
const TIOCGLCKTRMIOS = 0x5456;
const TIOCSLCKTRMIOS = 0x5457;
/** _IOR('T', 0x30, unsigned int) and _IOW('T', 0x31, int). */
const TIOCGPTN = 0x8004_5430;
const TIOCSPTLCK = 0x4004_5431;
/** _IOR('T', 0x32, unsigned int). */
const TIOCGDEV = 0x8004_5432;
/** _IOR('T', 0x38 …, int). */
const TIOCGPKT = 0x8004_5438;
/** Hangs a terminal up: whoever has it open gets EIO from then on. */
const TIOCVHANGUP = 0x5437;
const TIOCGPTLCK = 0x8004_5439;
const TIOCGEXCL = 0x8004_5440;
/** _IO('T', 0x41). */
const TIOCGPTPEER = 0x5441;

/** ioctl_tty(2), of a master in packet mode: what it has to be told. */
export const TIOCPKT_BITS = { FLUSHREAD: 1, FLUSHWRITE: 2, STOP: 4, START: 8, NOSTOP: 16, DOSTOP: 32, IOCTL: 64 } as const;

/** NCCS of the kernel: control characters of struct termios. */
export const NCCS = 19;

/** The kernel's struct termios. */
export interface Termios {
  readonly iflag: number;
  readonly oflag: number;
  readonly cflag: number;
  readonly lflag: number;
  readonly line: number;
  /** {@link NCCS} bytes. */
  readonly cc: Buffer;
  /** Bits per second, where these are none of the usual (BOTHER). */
  readonly speeds?: { readonly input: number; readonly output: number };
}

export const TERMIOS_BYTES = 36;

export function encodeTermios(termios: Termios): Buffer {
  const bytes = Buffer.alloc(TERMIOS_BYTES);
  [termios.iflag, termios.oflag, termios.cflag, termios.lflag].forEach((flags, i) => bytes.writeUInt32LE(flags, i * 4));
  bytes.writeUInt8(termios.line, 16);
  termios.cc.copy(bytes, 17, 0, NCCS);
  return bytes;
}

export function decodeTermios(bytes: Buffer): Termios {
  return {
    iflag: bytes.readUInt32LE(0),
    oflag: bytes.readUInt32LE(4),
    cflag: bytes.readUInt32LE(8),
    lflag: bytes.readUInt32LE(12),
    line: bytes.readUInt8(16),
    cc: Buffer.from(bytes.subarray(17, 17 + NCCS)),
  };
}

/** struct winsize. */
export interface WindowSize {
  readonly rows: number;
  readonly columns: number;
  readonly xPixels: number;
  readonly yPixels: number;
}

export function encodeWindowSize(size: WindowSize): Buffer {
  const bytes = Buffer.alloc(8);
  [size.rows, size.columns, size.xPixels, size.yPixels].forEach((value, i) => bytes.writeUInt16LE(value, i * 2));
  return bytes;
}

export function decodeWindowSize(bytes: Buffer): WindowSize {
  return {
    rows: bytes.readUInt16LE(0),
    columns: bytes.readUInt16LE(2),
    xPixels: bytes.readUInt16LE(4),
    yPixels: bytes.readUInt16LE(6),
  };
}

function request(name: string, nr: number, fd: number, arg: number | Uint8Array): number {
  return checked(syscallNumber(SYS.ioctl, fd, nr, arg), () => `ioctl(${fd}, ${name})`);
}

function getInt(name: string, nr: number, fd: number): number {
  const bytes = Buffer.alloc(4);
  request(name, nr, fd, bytes);
  return bytes.readInt32LE(0);
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value, 0);
  return bytes;
}

/** isatty(3). (node:tty has it too, but to load it takes longer than all of ours.) */
export function isatty(fd: number): boolean {
  return syscallNumber(SYS.ioctl, fd, TCGETS, Buffer.alloc(64)) === 0;
}

/** ioctl(fd, TCGETS) — the modes, or undefined when `fd` is no terminal (ENOTTY). EIO: its other side is gone. */
export function tcgets(fd: number): Termios | undefined {
  const bytes = Buffer.alloc(64);
  const got = syscallNumber(SYS.ioctl, fd, TCGETS, bytes);
  if (got === -ERRNO.ENOTTY) return undefined;
  checked(got, () => `ioctl(${fd}, TCGETS)`);
  const termios = decodeTermios(bytes);
  if (!hasOwnSpeed(termios)) return termios;
  request("TCGETS2", TCGETS2, fd, bytes);
  return { ...termios, speeds: { input: bytes.readUInt32LE(TERMIOS_BYTES), output: bytes.readUInt32LE(TERMIOS_BYTES + 4) } };
}

function hasOwnSpeed({ cflag }: Termios): boolean {
  return (cflag & CBAUD) === BOTHER || ((cflag >>> IBSHIFT) & CBAUD) === BOTHER;
}

/** ioctl(fd, TCSETS) — sets the modes at once. */
export function tcsets(fd: number, termios: Termios): void {
  if (termios.speeds !== undefined && hasOwnSpeed(termios)) {
    const speeds = Buffer.alloc(8);
    speeds.writeUInt32LE(termios.speeds.input, 0);
    speeds.writeUInt32LE(termios.speeds.output, 4);
    request("TCSETS2", TCSETS2, fd, Buffer.concat([encodeTermios(termios), speeds]));
    return;
  }
  request("TCSETS", TCSETS, fd, encodeTermios(termios));
}

/** ioctl(fd, TIOCGLCKTRMIOS) — which bits of the modes are locked. */
export function tiocglcktrmios(fd: number): Termios {
  const bytes = Buffer.alloc(64);
  request("TIOCGLCKTRMIOS", TIOCGLCKTRMIOS, fd, bytes);
  return decodeTermios(bytes);
}

/** ioctl(fd, TIOCSLCKTRMIOS) — locks bits of the modes; CAP_SYS_ADMIN (or CAP_CHECKPOINT_RESTORE). */
export function tiocslcktrmios(fd: number, termios: Termios): void {
  request("TIOCSLCKTRMIOS", TIOCSLCKTRMIOS, fd, encodeTermios(termios));
}

/** ioctl(fd, TIOCGWINSZ). */
export function tiocgwinsz(fd: number): WindowSize {
  const bytes = Buffer.alloc(8);
  request("TIOCGWINSZ", TIOCGWINSZ, fd, bytes);
  return decodeWindowSize(bytes);
}

/** ioctl(fd, TIOCSWINSZ) — SIGWINCH goes to the foreground group when the size changes. */
export function tiocswinsz(fd: number, size: WindowSize): void {
  request("TIOCSWINSZ", TIOCSWINSZ, fd, encodeWindowSize(size));
}

/** ioctl(fd, TIOCGPGRP) — the foreground group. ENOTTY unless it is the caller's controlling terminal or a pty master. */
export function tiocgpgrp(fd: number): number {
  return getInt("TIOCGPGRP", TIOCGPGRP, fd);
}

/** ioctl(fd, TIOCSPGRP) — sets the foreground group; SIGTTOU hits a background caller that does not block it. */
export function tiocspgrp(fd: number, pgid: number): void {
  request("TIOCSPGRP", TIOCSPGRP, fd, int(pgid));
}

/** ioctl(fd, TIOCGSID) — the session, under the same condition as {@link tiocgpgrp}. */
export function tiocgsid(fd: number): number {
  return getInt("TIOCGSID", TIOCGSID, fd);
}

/** ioctl(fd, TIOCSCTTY, steal) — makes it the controlling terminal of the calling session leader. */
export function tiocsctty(fd: number, steal = 0): void {
  request("TIOCSCTTY", TIOCSCTTY, fd, steal);
}

/** ioctl(fd, TIOCNOTTY) — gives the controlling terminal up. */
export function tiocnotty(fd: number): void {
  request("TIOCNOTTY", TIOCNOTTY, fd, 0);
}

/** ioctl(fd, TIOCGPTN) — number of a pty (its /dev/pts name), asked at the master. */
export function tiocgptn(fd: number): number {
  return getInt("TIOCGPTN", TIOCGPTN, fd);
}

/** ioctl(fd, TIOCGDEV) — the terminal behind a console, in the form of tty_nr. */
export function tiocgdev(fd: number): number {
  return getInt("TIOCGDEV", TIOCGDEV, fd);
}

/** ioctl(fd, TIOCSPTLCK) — locks or unlocks the slave of a pty. */
export function tiocsptlck(fd: number, locked: boolean): void {
  request("TIOCSPTLCK", TIOCSPTLCK, fd, int(locked ? 1 : 0));
}

/** ioctl(fd, TIOCGPTLCK) — whether the slave is locked. */
export function tiocgptlck(fd: number): boolean {
  return getInt("TIOCGPTLCK", TIOCGPTLCK, fd) !== 0;
}

/** ioctl(fd, TIOCPKT) — packet mode of a pty master. */
export function tiocpkt(fd: number, on: boolean): void {
  request("TIOCPKT", TIOCPKT, fd, int(on ? 1 : 0));
}

/** ioctl(fd, TIOCGPKT) — whether packet mode is on. */
export function tiocgpkt(fd: number): boolean {
  return getInt("TIOCGPKT", TIOCGPKT, fd) !== 0;
}

/** ioctl(fd, TIOCEXCL) — further opens fail with EBUSY, except for CAP_SYS_ADMIN. */
export function tiocexcl(fd: number): void {
  request("TIOCEXCL", TIOCEXCL, fd, 0);
}

/** ioctl(fd, TIOCGEXCL) — whether exclusive mode is on. */
export function tiocgexcl(fd: number): boolean {
  return getInt("TIOCGEXCL", TIOCGEXCL, fd) !== 0;
}

/** ioctl(fd, TIOCGPTPEER, flags) — opens the slave of a master, wherever its devpts is mounted; since 4.13. */
export function tiocgptpeer(fd: number, flags: number): number {
  return request("TIOCGPTPEER", TIOCGPTPEER, fd, flags);
}

/** ioctl(fd, TCXONC, action) — stops output (TCOOFF), or lets it go on (TCOON). */
export function tcxonc(fd: number, action: number): void {
  request("TCXONC", TCXONC, fd, action);
}

/** ioctl(fd, TCFLSH, queue) — drops what is typed and not read (TCIFLUSH), or printed and not shown (TCOFLUSH). */
export function tcflsh(fd: number, queue: number): void {
  request("TCFLSH", TCFLSH, fd, queue);
}

/** ioctl(fd, TIOCVHANGUP) — whoever has the terminal open has lost it; it can be opened again. */
export function tiocvhangup(fd: number): void {
  request("TIOCVHANGUP", TIOCVHANGUP, fd, 0);
}
