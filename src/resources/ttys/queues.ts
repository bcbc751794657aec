/**
 * What is on its way through a pseudo-terminal, in both directions: typed and not read, printed and not shown.
 *
 * There is no way to look at it, it has to be read and put back. One program inside the tree does both: were the dumper killed
 * meanwhile, it would still come to its end. What is left of danger is in docs/decisions/0011-terminal-queues.md.
 *
 * Read from   splice(2) from either side into a pipe, until nothing is left, and back through the other side; a copy by tee(2)
 * Made with   write(2) to the other side, in modes that leave the bytes alone and keep lines, half lines and ends of file apart
 * Refused     queues that came back incomplete; stopped output (^S), where the kernel's memory may not be read: nobody else tells who has
 *             stopped it (linux/kernel-terminals.ts)
 *
 * A master in packet mode that has not been told yet what was done: packet-status.ts.
 */
import { closeSync, openSync, readSync, readlinkSync, writeSync, constants } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import { F_SETFL, getStatusFlags, setPipeSize, setStatusFlags } from "../../linux/fcntl.js";
import { O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR } from "../../linux/files.js";
import { bytesToRead, pipe2 } from "../../linux/pipes.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { pollOnce } from "../../linux/sockets.js";
import { POLLHUP, POLLIN, POLLOUT, POLLPRI } from "../../linux/streams.js";
import { SYS } from "../../linux/syscalls.js";
import { KernelTerminals, type StoppedBy } from "../../linux/kernel-terminals.js";
import {
  TCOOFF,
  TCOON,
  TCSETS,
  TCXONC,
  TIOCPKT,
  type Termios,
  encodeTermios,
  tcgets,
  tcsets,
  tcxonc,
  tiocgpkt,
  tiocgptlck,
  tiocgptpeer,
  tiocsptlck,
} from "../../linux/terminals.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { type Data, Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { DumpSession, DumpTask, Fd, OpenFile } from "../part.js";
import { controllingDevice } from "./outside.js";
import { canBeTold } from "./packet-status.js";
import { type TtyDataEntry, ttyDataEntry } from "./tty.schema.js";

/** asm-generic/termbits.h: PARMRK, ISTRIP, INLCR, IGNCR, ICRNL, IUCLC, IXANY, IXOFF, BRKINT. IXON stays: taking it away lets output go on. */
const INPUT_CHANGES = 0o2 | 0o10 | 0o40 | 0o100 | 0o200 | 0o400 | 0o1000 | 0o4000 | 0o10000;
const OPOST = 0o1;
const ISIG = 0o1;
const ICANON = 0o2;
/** ECHO, ECHOE, ECHOK, ECHONL, TOSTOP, ECHOCTL, ECHOPRT, ECHOKE. */
const ECHOES = 0o10 | 0o20 | 0o40 | 0o100 | 0o400 | 0o1000 | 0o2000 | 0o4000;
const VEOF = 4;
const VMIN = 6;
const VSTART = 8;
const VSTOP = 9;
const IXON = 0o2000;
const VEOL = 11;
const VEOL2 = 16;
/** Room of the pipe; a pseudo-terminal's queues hold less than a tenth of it. */
const PIPE_BYTES = 1 << 20;
/** Each read brings at least one piece of the kernel's queue, which has 256 bytes or more. */
const READS = 320;
const READ_BYTES = 8192;
/** N_TTY_BUF_SIZE - 1: as much as the reading side of a terminal holds before the queue behind it fills. */
const FULL = 4095;
/**
 * Pieces in which the queue behind it takes all that it ever takes: it is a list of buffers that hold twice their size, made in
 * steps of 256 bytes as long as there are no more than 8192 (drivers/tty/pty.c, tty_buffer.c). The last may be greater.
 */
const SMALL_BYTES = 256;
const SMALL_PIECES = 56;
const LARGE_BYTES = 2048;
/** Until here pieces are small. */
const SMALL_END = FULL + 1 + SMALL_PIECES * SMALL_BYTES;
const PAUSE_MS = 5;
/** What the kernel's worker may need to take in what has been typed. */
const TAKE_IN_MS = 2;

/** Modes in which bytes go through unchanged; lines stay lines when the terminal makes lines. */
function plain(
  modes: Termios,
  { lines, endOfFile = 0, keepsFlow = false }: { lines: boolean; endOfFile?: number; keepsFlow?: boolean | undefined },
): Termios {
  const cc = Buffer.alloc(modes.cc.length);
  cc[VMIN] = 1;
  if (keepsFlow) for (const at of [VSTART, VSTOP]) cc[at] = modes.cc[at] ?? 0;
  if (lines) {
    cc[VEOF] = endOfFile;
    cc[VEOL] = modes.cc[VEOL] ?? 0;
    cc[VEOL2] = modes.cc[VEOL2] ?? 0;
  }
  const lflag = (modes.lflag & ~(ISIG | ECHOES | ICANON)) | (lines ? modes.lflag & ICANON : 0);
  return { ...modes, iflag: modes.iflag & ~INPUT_CHANGES, oflag: modes.oflag & ~OPOST, lflag, cc };
}

/** One direction of a pair while it is emptied and filled again. */
interface Direction {
  /** For both ends of one pipe. */
  readonly pipe: Fd;
  readonly copy: { readonly readEnd: Fd; readonly writeEnd: Fd };
}

/** One descriptor for both ends of a new pipe. */
function newPipe(sizeBytes: number): Fd {
  const ends = pipe2(O_CLOEXEC | O_NONBLOCK);
  const pipe = openSync(`/proc/self/fd/${ends.readEnd}`, constants.O_RDWR | constants.O_NONBLOCK);
  closeSync(ends.readEnd);
  closeSync(ends.writeEnd);
  setPipeSize(pipe, sizeBytes);
  return pipe;
}

function newDirection(): Direction {
  const pipe = newPipe(PIPE_BYTES);
  const copy = pipe2(O_CLOEXEC | O_NONBLOCK);
  setPipeSize(copy.writeEnd, PIPE_BYTES);
  return { pipe, copy };
}

function drain(fd: Fd): Buffer {
  const data = Buffer.alloc(bytesToRead(fd));
  let at = 0;
  while (at < data.length) at += readSync(fd, data, at, data.length - at, null);
  return data;
}

/** Who must not be asked to read: a task in the background of this terminal would get EIO. */
function chooseTask(session: DumpSession, slave: bigint, holder: DumpTask): DumpTask {
  return [holder, ...session.tasks].find((task) => controllingDevice(task) !== slave) ?? holder;
}

/** A master as the tree holds it, and what is known of its pair. */
export interface Master {
  readonly file: OpenFile;
  readonly index: number;
  /** Device of the slave side. */
  readonly slave: bigint;
  readonly packetMode: boolean;
  /** Whether a process of the tree has the slave open. */
  readonly isSlaveHeld: boolean;
}

/** Whether nobody has opened the slave side yet, as far as the tree knows: the master has not hung up without it. */
export function isFresh({ file, isSlaveHeld }: Pick<Master, "file" | "isSlaveHeld">): boolean {
  return !isSlaveHeld && (pollOnce(file.local, 0) & POLLHUP) === 0;
}

/** What else is known of a pair whose queues are saved. */
export interface SavedPair {
  readonly stopped?: StoppedBy | undefined;
  /** TIOCPKT_… bits that its master has not read. */
  readonly packetStatus?: number;
}

/** Saves what is on its way through the pair; it is where it was afterwards. Tells whether its output is stopped. */
export function saveQueues(master: Master, session: DumpSession): SavedPair {
  const { file } = master;
  const refuse = (because: string, remedy = "Dump again a moment later") =>
    session.refuse(
      new Refusal({
        code: "TERMINAL_HAS_DATA",
        process: { pid: file.task.traced.pid, comm: file.task.comm },
        resource: `fd ${file.fd}, the terminal "${file.link}" (/dev/pts/${master.index})`,
        because,
        remedy: [remedy],
      }),
    );
  if (isFresh(master)) {
    // Opening and closing the slave would hang the master up.
    if (bytesToRead(file.local) > 0) refuse("it holds unread bytes, and its slave side is outside the tree");
    return {};
  }
  const peer = openSlave(file.local);
  try {
    const modes = tcgets(peer);
    const typed = bytesToRead(peer);
    const printed = bytesToRead(file.local);
    if (modes === undefined) return {};
    const stopped = stoppedBy(peer, printed);
    if (stopped === "unknown" || (stopped === "typing" && !canBeTyped(modes, typed))) {
      refuse("its output is stopped", "Let it go on (^Q)");
      return {};
    }
    if (isUntold(master)) {
      const seen = seenUntold({ master, peer, modes, stopped }, { typed, session });
      if (seen === undefined) refuse("it is in packet mode, and its master has not read what was done to it (TIOCPKT)");
      return { stopped, ...(seen === undefined ? {} : { packetStatus: seen }) };
    }
    if (typed === 0 && printed === 0 && (modes.lflag & ICANON) === 0) return { stopped };
    if (!moveAll({ master, peer, modes, stopped }, { typed, session })) refuse("what was unread did not all go back where it was");
    return { stopped };
  } finally {
    closeSync(peer);
  }
}

/** Whether a master in packet mode has something to be told. */
const isUntold = ({ packetMode, file }: Pick<Master, "packetMode"> & { file: { local: Fd } }): boolean =>
  packetMode && (pollOnce(file.local, POLLPRI) & POLLPRI) !== 0;

/**
 * The status that the master of a pair has not read, which every way to look at the queues would change or take: they are saved as the
 * kernel's memory shows them. Undefined: it shows them not, or they could not be made again.
 */
function seenUntold(
  { master, peer, modes, stopped }: Pair,
  { typed, session }: { typed: number; session: DumpSession },
): number | undefined {
  const view = kernelTerminals();
  const [status, input, output] = [view?.packetStatus(peer), view?.unread(peer), view?.unread(master.file.local)];
  if (status === undefined || input === undefined || output === undefined || input.length >= FULL || output.length >= FULL)
    return undefined;
  const eofs = endsOfFile(input, typed, modes);
  const data = eofs.length > 0 ? Buffer.from(input.filter((byte) => byte !== 0)) : input;
  if (!canBeTold(status, { modes, stopped, input: data, output })) return undefined;
  save(session, { tty_id: master.index * 2, data, eofs });
  save(session, { tty_id: master.index * 2 + 1, data: output, eofs: [] });
  return status;
}

function openSlave(master: Fd): Fd {
  const isLocked = tiocgptlck(master);
  if (isLocked) tiocsptlck(master, false);
  try {
    return tiocgptpeer(master, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  } finally {
    if (isLocked) tiocsptlck(master, true);
  }
}

let kernel: KernelTerminals | undefined;
let wasTried = false;

function kernelTerminals(): KernelTerminals | undefined {
  if (!wasTried) kernel = KernelTerminals.open();
  wasTried = true;
  return kernel;
}

/** A terminal takes nothing while its output is stopped, or when it is full. */
const takesNothing = (slave: Fd): boolean => (pollOnce(slave, POLLOUT) & POLLOUT) === 0;

/** Gets ready, some 30 ms long, if a process has a slave that takes nothing, or a master that has something to be told. */
export function prepareTerminals(pids: readonly number[]): void {
  if (!wasTried && pids.some(needsLook)) kernelTerminals();
}

function needsLook(pid: number): boolean {
  const seen = new Set<string>();
  let pidfd: Fd | undefined;
  try {
    for (const fd of readFdNumbers(pid)) {
      const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
      const isMaster = /^\/dev\/(pts\/)?ptmx$/.test(link);
      if (!isMaster && (!/^\/dev\/pts\/\d+$/.test(link) || seen.has(link))) continue;
      seen.add(link);
      pidfd ??= pidfdOpen(pid);
      const local = pidfdGetfd(pidfd, fd);
      try {
        if (isMaster ? isUntold({ packetMode: tiocgpkt(local), file: { local } }) : takesNothing(local)) return true;
      } finally {
        closeSync(local);
      }
    }
  } catch {
    // It has ended, or closes what it had.
  } finally {
    if (pidfd !== undefined) closeSync(pidfd);
  }
  return false;
}

function stoppedBy(slave: Fd, printed: number): StoppedBy | "unknown" | undefined {
  if (!takesNothing(slave)) return undefined;
  const found = kernelTerminals()?.stopped(slave) ?? (printed >= FULL ? "not" : "unknown");
  return found === "not" ? undefined : found;
}

/** Whether the character that stops output means that still, and is looked at when it is typed. */
const canBeTyped = (modes: Termios, typed: number): boolean =>
  (modes.iflag & IXON) !== 0 && (modes.cc[VSTOP] ?? 0) !== 0 && typed < FULL - 1;

interface Pair {
  readonly master: Master;
  /** Who has stopped its output. */
  readonly stopped: StoppedBy | undefined;
  /** A descriptor of ours for the slave side. */
  readonly peer: Fd;
  readonly modes: Termios;
}

/** Reads and puts back both directions, and writes down what came. False: not all of it is back. */
function moveAll(pair: Pair, { typed, session }: { typed: number; session: DumpSession }): boolean {
  const { index } = pair.master;
  const input = newDirection();
  const output = newDirection();
  try {
    move(pair, { input, output }, session);
    const data = drain(input.copy.readEnd);
    const shown = drain(output.copy.readEnd);
    const eofs = endsOfFile(data, typed, pair.modes);
    if (eofs.length > 0) move(pair, { input, output, instead: withEnds(data) }, session);
    save(session, { tty_id: index * 2, data: eofs.length > 0 ? data.filter((byte) => byte !== 0) : data, eofs });
    save(session, { tty_id: index * 2 + 1, data: shown, eofs: [] });
    const isStopped = pair.stopped === undefined || waitUntilStopped(pair.peer);
    return isStopped && bytesToRead(input.pipe) === 0 && bytesToRead(output.pipe) === 0;
  } finally {
    for (const { pipe, copy } of [input, output]) for (const fd of [pipe, copy.readEnd, copy.writeEnd]) closeSync(fd);
  }
}

function save(session: DumpSession, value: TtyDataEntry): void {
  if (value.data.length > 0 || value.eofs.length > 0) session.images.append("TTY_DATA", [], { type: ttyDataEntry, value });
}

/** The one program that takes everything out and puts it back; `instead`: other bytes for the slave to read. */
function move(
  pair: Pair,
  { input, output, instead }: { input: Direction; output: Direction; instead?: { data: Buffer; endOfFile: number } },
  session: DumpSession,
): void {
  const { master, peer } = pair;
  const { leader } = chooseTask(session, master.slave, master.file.task).traced;
  const mark = newPipe(1);
  const source = instead === undefined ? undefined : newPipe(PIPE_BYTES);
  try {
    if (source !== undefined && instead !== undefined) writeSync(source, instead.data);
    const common = [master.file.local, peer, mark, input.pipe, output.pipe];
    const fds = handOver(leader, source === undefined ? [...common, input.copy.writeEnd, output.copy.writeEnd] : [...common, source]);
    const [m, s, marks, typed, shown, sixth, shownCopy] = fds as [number, number, number, number, number, number, number?];
    const endOfFile = instead?.endOfFile ?? 0;
    const isCopied = source === undefined;
    try {
      run(
        leader,
        moving(pair, { m, s, marks, typed, shown, shownCopy, endOfFile, ...(isCopied ? { typedCopy: sixth } : { source: sixth }) }),
      );
    } finally {
      closeRemote(leader, fds);
    }
    // What was taken out to be replaced is of no use any more.
    if (source !== undefined) drain(input.pipe);
  } finally {
    for (const fd of source === undefined ? [mark] : [mark, source]) closeSync(fd);
  }
}

/** Descriptors of the task that does it. */
interface Moving {
  readonly m: number;
  readonly s: number;
  readonly marks: number;
  readonly typed: number;
  readonly shown: number;
  readonly typedCopy?: number;
  readonly shownCopy?: number | undefined;
  /** What is typed in place of what was. */
  readonly source?: number;
  readonly endOfFile: number;
}

function moving({ master, modes, stopped }: Pair, at: Moving): Program {
  const { m, s } = at;
  const flags = getStatusFlags(master.file.local);
  const program = new Program();
  const setModes = (to: Termios) => program.call(SYS.ioctl, m, TCSETS, program.bytes(encodeTermios(to)));
  const setPacket = (on: boolean) => {
    const value: Data = program.bytes(Buffer.from([on ? 1 : 0, 0, 0, 0]));
    if (master.packetMode) program.call(SYS.ioctl, m, TIOCPKT, value);
  };
  program.call(SYS.fcntl, m, F_SETFL, flags | O_NONBLOCK).must("making a terminal non-blocking");
  setPacket(false);
  setModes(plain(modes, { lines: false })).must("setting a terminal's modes");
  takeOut(program, { from: s, pipe: at.typed, copy: at.typedCopy });
  setModes(plain(modes, { lines: true, endOfFile: at.endOfFile }));
  putIn(program, { pipe: at.source ?? at.typed, into: m, reader: s, mark: at.marks });
  takeOut(program, { from: m, pipe: at.shown, copy: at.shownCopy });
  const flow = (action: number) => program.call(SYS.ioctl, s, TCXONC, action);
  // What was stopped by typing goes on only when a call has stopped it, too.
  if (stopped !== undefined) for (const action of [TCOOFF, TCOON]) flow(action);
  putIn(program, { pipe: at.shown, into: s, reader: m });
  if (stopped === "call") flow(TCOOFF);
  setModes(modes);
  if (stopped === "typing") {
    program.call(SYS.write, m, program.bytes(stopCharacter(modes)), 1);
    // The master would be told of it in packet mode.
    if (master.packetMode) poll(program, m, { events: 0, timeoutMs: TAKE_IN_MS });
  }
  setPacket(true);
  program.call(SYS.fcntl, m, F_SETFL, flags);
  return program;
}

function takeOut(program: Program, { from, pipe, copy }: { from: number; pipe: number; copy: number | undefined }): void {
  for (let i = 0; i < READS; i++) program.call(SYS.splice, from, 0, pipe, 0, READ_BYTES, 0);
  if (copy !== undefined) program.call(SYS.tee, pipe, copy, PIPE_BYTES, 0);
}

const poll = (program: Program, fd: number, on: { events: number; timeoutMs: number }): void => {
  const entry = Buffer.alloc(8); // struct pollfd { int fd; short events; short revents; }
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(on.events, 4);
  program.call(SYS.poll, program.inOut(entry), 1, on.timeoutMs);
};

/**
 * The kernel takes input in in the background, in the modes of that moment, which must not change before. poll(2) at a side that has
 * nothing to read waits until it has done so. When a line is there already it does not: so there is a pause as well, by a
 * pipe for one byte (`mark`), which is only full when there was something to put in.
 */
function putIn(program: Program, { pipe, into, reader, mark }: { pipe: number; into: number; reader: number; mark?: number }): void {
  const piece = (sizeBytes: number) => program.call(SYS.splice, pipe, 0, into, 0, sizeBytes, 0);
  if (mark !== undefined) program.call(SYS.tee, pipe, mark, 1, 0);
  for (let at = 0; at < FULL; at += SMALL_BYTES) piece(SMALL_BYTES);
  poll(program, reader, { events: POLLIN, timeoutMs: 0 });
  if (mark !== undefined) poll(program, mark, { events: POLLOUT, timeoutMs: TAKE_IN_MS });
  for (let i = 0; i < SMALL_PIECES; i++) piece(SMALL_BYTES);
  piece(LARGE_BYTES);
  piece(LARGE_BYTES);
  poll(program, into, { events: POLLOUT, timeoutMs: PAUSE_MS });
  for (let i = 0; i < SMALL_PIECES; i++) piece(SMALL_BYTES);
}

/**
 * Where an end of file (^D) lies among typed bytes: the kernel keeps it as a zero byte that it does not count. Empty, when the
 * zeros are bytes that somebody typed.
 */
export function endsOfFile(data: Buffer, countedBytes: number, modes: Pick<Termios, "lflag" | "cc">): number[] {
  if ((modes.lflag & ICANON) === 0 || !data.includes(0)) return [];
  const ends = [10, 0, modes.cc[VEOL] ?? 0, modes.cc[VEOL2] ?? 0];
  const end = data.findLastIndex((byte) => ends.includes(byte)) + 1;
  const zeros = data.subarray(0, end).filter((byte) => byte === 0).length;
  if (end - zeros !== countedBytes) return [];
  const places: number[] = [];
  data.forEach((byte, i) => byte === 0 && places.push(i - places.length));
  return places;
}

/** The bytes to be typed again, with a character for the ends of file that is not among them. */
function withEnds(data: Buffer): { data: Buffer; endOfFile: number } {
  const endOfFile = unusedByte(data);
  return { data: Buffer.from(data.map((byte) => (byte === 0 ? endOfFile : byte))), endOfFile };
}

function unusedByte(data: Uint8Array): number {
  const used = new Set(data);
  for (let byte = 255; byte > 127; byte--) if (!used.has(byte)) return byte;
  return 4;
}

const stopCharacter = (modes: Termios): Buffer => Buffer.from([modes.cc[VSTOP] ?? 0]);

/** The kernel takes the character for it in in the background. */
function waitUntilStopped(slave: Fd): boolean {
  for (let idle = 0; (pollOnce(slave, POLLOUT) & POLLOUT) !== 0; idle++) {
    if (idle > MAX_IDLE) return false;
    Atomics.wait(PAUSE, 0, 0, 1);
  }
  return true;
}

/** Stops the output of a new pair, as it was. False: it does not stop. */
export function stopOutput({ master, slave, modes }: NewPair, by: StoppedBy): boolean {
  if (by === "call") tcxonc(slave, TCOOFF);
  else if (canBeTyped(modes, 0)) writeSync(master, stopCharacter(modes));
  else return false;
  return waitUntilStopped(slave);
}

/** A pair that is being made again. */
export interface NewPair {
  readonly master: Fd;
  readonly slave: Fd;
  /** The modes that the pair is to have. */
  readonly modes: Termios;
}

/** Types or prints saved bytes: those of the slave's queue through the master, and the other way round. */
export function refillQueue(pair: NewPair & { readonly keepsFlow?: boolean }, entry: TtyDataEntry, isInput: boolean): void {
  const data = Buffer.from(entry.data);
  const endOfFile = unusedByte(data);
  const pieces: Buffer[] = [];
  let from = 0;
  for (const at of entry.eofs) {
    pieces.push(data.subarray(from, at), Buffer.from([endOfFile]));
    from = at;
  }
  const { keepsFlow } = pair;
  tcsets(pair.slave, plain(pair.modes, { lines: true, endOfFile: entry.eofs.length > 0 ? endOfFile : 0, keepsFlow }));
  const bytes = Buffer.concat([...pieces, data.subarray(from)]);
  const [writer, reader] = isInput ? [pair.master, pair.slave] : [pair.slave, pair.master];
  writeAll(writer, bytes.subarray(0, FULL), entry);
  pollOnce(reader, POLLIN);
  if (isInput && bytes.length > 0) Atomics.wait(PAUSE, 0, 0, TAKE_IN_MS); // see putIn
  writeAll(writer, bytes.subarray(FULL), entry);
  tcsets(pair.slave, pair.modes);
}

/** A terminal takes no more than it held: what does not go in after a while does not come from one. */
function writeAll(fd: Fd, data: Buffer, entry: TtyDataEntry): void {
  const flags = getStatusFlags(fd);
  setStatusFlags(fd, flags | O_NONBLOCK);
  try {
    for (let at = 0, idle = 0; at < data.length; idle++) {
      const wrote = tryWrite(fd, data.subarray(at, at + (at < SMALL_END ? SMALL_BYTES : LARGE_BYTES)));
      at += wrote;
      if (wrote > 0) idle = 0;
      else if (idle > MAX_IDLE) throw tooMuch(entry);
      else Atomics.wait(PAUSE, 0, 0, PAUSE_MS);
    }
  } finally {
    setStatusFlags(fd, flags);
  }
}
const MAX_IDLE = 400;
const PAUSE = new Int32Array(new SharedArrayBuffer(4));

function tryWrite(fd: Fd, data: Buffer): number {
  try {
    return writeSync(fd, data);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EAGAIN") return 0;
    throw error;
  }
}

function tooMuch(entry: TtyDataEntry): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_VALUE",
    place: { file: "tty-data.img", message: "tty_data_entry", field: "data" },
    because: `no terminal holds ${entry.data.length} bytes that nobody has read (terminal ${entry.tty_id})`,
    remedy: ["Dump the process again"],
  });
}
