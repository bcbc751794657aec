/**
 * What a master in packet mode has not been told yet, ioctl_tty(2) TIOCPKT: bits that the kernel gathers until the master reads.
 *
 * Read from   the kernel's memory: a read(2) would take them (queues.ts)
 * Made with   the acts that they tell of, on the slave: tcflush(3) while the queue is empty, tcflow(3), modes that come and go. What
 *             must not be told of is done before packet mode is on, which begins with nothing
 */
import { TCIFLUSH, TCOFLUSH, TCOOFF, TCOON, TIOCPKT_BITS, type Termios, tcflsh, tcsets, tcxonc } from "../../linux/terminals.js";
import type { StoppedBy } from "../../linux/kernel-terminals.js";
import type { Fd } from "../part.js";

const { FLUSHREAD, FLUSHWRITE, STOP, START, NOSTOP, DOSTOP, IOCTL } = TIOCPKT_BITS;
/** asm-generic/termbits.h. */
const IXON = 0o2000;
const EXTPROC = 0o200000;
const VSTART = 8;
const VSTOP = 9;
/** ^Q and ^S: with others, the kernel says that the master need not care (drivers/tty/pty.c). */
const [XON, XOFF] = [0o21, 0o23];

const hasFlow = ({ iflag, cc }: Termios): boolean => (iflag & IXON) !== 0 && cc[VSTOP] === XOFF && cc[VSTART] === XON;

/** What is known of a pair whose master is to be told of `status`. */
export interface Untold {
  readonly modes: Termios;
  readonly stopped: StoppedBy | undefined;
  /** Typed, and printed, what waits to be read. */
  readonly input: Buffer;
  readonly output: Buffer;
}

/** Whether {@link tellFlushed} and {@link tellRest} bring the same again, with queues that are filled in between. */
export function canBeTold(status: number, { modes, stopped, input, output }: Untold): boolean {
  const flow = status & (NOSTOP | DOSTOP);
  if ((status & ~(FLUSHREAD | FLUSHWRITE | STOP | START | NOSTOP | DOSTOP | IOCTL)) !== 0) return false;
  const flowed = status & (STOP | START);
  if (flowed !== 0 && flowed !== (stopped === undefined ? START : STOP)) return false;
  if (flow !== 0 && flow !== (hasFlow(modes) ? DOSTOP : NOSTOP)) return false;
  if ((status & IOCTL) !== 0 && flow === 0) return false;
  const filled = [comesLater(status, "input") && input.length > 0, comesLater(status, "output") && output.length > 0];
  // Modes change twice for that.
  if (filled.includes(true) && (modes.lflag & EXTPROC) !== 0 && (status & IOCTL) === 0) return false;
  // Nothing can be printed to what is stopped.
  if (filled[1] === true && stopped !== undefined && (status & STOP) === 0) return false;
  // The characters would do what they are for.
  return filled[0] !== true || (modes.iflag & IXON) === 0 || ![VSTART, VSTOP].some((at) => input.includes(modes.cc[at] ?? 0));
}

/** Whether a queue is filled when its flush has been told: it would be empty after that. */
export function comesLater(status: number, side: "input" | "output"): boolean {
  return (status & (side === "input" ? FLUSHREAD : FLUSHWRITE)) !== 0;
}

/** Whether output is stopped in packet mode. */
export const isToldOfStop = (status: number): boolean => (status & STOP) !== 0;

/** In packet mode. */
export function tellFlushed(slave: Fd, status: number): void {
  if ((status & FLUSHREAD) !== 0) tcflsh(slave, TCIFLUSH);
  if ((status & FLUSHWRITE) !== 0) tcflsh(slave, TCOFLUSH);
}

/** In packet mode, when queues are filled and output is stopped; the terminal has its `modes` afterwards. */
export function tellRest(slave: Fd, status: number, modes: Termios): void {
  if ((status & START) !== 0) for (const action of [TCOOFF, TCOON]) tcxonc(slave, action);
  if ((status & (NOSTOP | DOSTOP | IOCTL)) === 0) return;
  tcsets(slave, (status & IOCTL) === 0 ? withOtherFlow(modes) : { ...modes, lflag: modes.lflag ^ EXTPROC });
  tcsets(slave, modes);
}

function withOtherFlow(modes: Termios): Termios {
  const cc = Buffer.from(modes.cc);
  // Not by IXON where it is on: without it what is stopped goes on.
  if (hasFlow(modes)) cc[VSTOP] = 0;
  else [cc[VSTART], cc[VSTOP]] = [XON, XOFF];
  return { ...modes, iflag: modes.iflag | IXON, cc };
}
