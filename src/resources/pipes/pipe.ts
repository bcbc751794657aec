/**
 * Pipes: two ends of one buffer, each opened any number of times, with data in flight.
 *
 * Read from   fdinfo, fcntl(F_GETPIPE_SZ); the data by tee(2), which leaves it where it is; messages of packet mode by
 *             what each read of the copy brings
 * Made with   pipe2(2), /proc/self/fd/N for further descriptions of an end, fcntl(F_SETPIPE_SZ), write(2)
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { dupFrom, getPipeSize, setPipeSize, setStatusFlags } from "../../linux/fcntl.js";
import { O_ACCMODE, O_CLOEXEC, O_DIRECT, O_LARGEFILE, O_NONBLOCK, O_RDONLY, O_WRONLY, openat } from "../../linux/files.js";
import { bytesToRead, pipe2, tee } from "../../linux/pipes.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import { noteEnd } from "./outside.js";
import { type PipeDataEntry, pipeDataEntry } from "./pipe-data.schema.js";
import type { PipeEntry } from "./pipe.schema.js";

const AT_FDCWD = -100;
const DEFAULT_CAPACITY = 65536;
const MAX_CAPACITY = 1 << 30;

/** Data of pipes and of fifos have the same form, in images of different names. */
export type DataKind = "PIPES_DATA" | "FIFO_DATA";

const saved = new WeakMap<DumpSession, Set<number>>();

/** Saves capacity and data of the pipe behind `local` once per dump; nothing in it moves. */
export function savePipeData(file: OpenFile, session: DumpSession, { kind, pipeId }: { kind: DataKind; pipeId: number }): void {
  const seen = saved.get(session) ?? new Set();
  saved.set(session, seen);
  if (seen.has(pipeId)) return;
  seen.add(pipeId);
  const size = getPipeSize(file.local);
  const { data, packets } = peekInto(file, size);
  if (data.length === 0 && size === DEFAULT_CAPACITY) return;
  session.images.append(kind, [], { type: pipeDataEntry, value: { pipe_id: pipeId, bytes: data.length, size, packets }, extra: data });
}

/** Looks by the very descriptor where it can be read: who watches a fifo is told when another is opened. */
function peekInto({ local, info }: OpenFile, size: number): Peeked {
  if (bytesToRead(local) === 0) return { data: Buffer.alloc(0), packets: [] };
  if ((info.flags & O_ACCMODE) !== O_WRONLY) return peek(local, size);
  const reader = openSync(`/proc/self/fd/${local}`, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return peek(reader, size);
  } finally {
    closeSync(reader);
  }
}

interface Peeked {
  readonly data: Buffer;
  /** How long the messages are that they came in, if they did. */
  readonly packets: number[];
}

/** The bytes in a pipe, without taking them out. */
function peek(reader: Fd, capacity: number): Peeked {
  const bytes = bytesToRead(reader);
  if (bytes === 0) return { data: Buffer.alloc(0), packets: [] };
  return withCopy(reader, { capacity, bytes }, (copy) => {
    const data = Buffer.alloc(bytes);
    const reads: number[] = [];
    for (let got = 0; got < bytes; ) {
      const length = readSync(copy, data, got, bytes - got, null);
      reads.push(length);
      got += length;
    }
    const isPackets = reads.length > 1 || withCopy(reader, { capacity, bytes }, isOnePacket);
    return { data, packets: isPackets ? reads : [] };
  });
}

/** Gives `use` the read end of a pipe with the same content. */
function withCopy<T>(reader: Fd, size: { capacity: number; bytes: number }, use: (copy: Fd) => T): T {
  const copy = pipe2(O_CLOEXEC | O_NONBLOCK);
  try {
    if (size.capacity !== DEFAULT_CAPACITY) setPipeSize(copy.writeEnd, size.capacity);
    tee(reader, copy.writeEnd, size.bytes);
    return use(copy.readEnd);
  } finally {
    closeSync(copy.readEnd);
    closeSync(copy.writeEnd);
  }
}

/** Whether what one read brings is a message: then the rest of it is lost to a read that is too short. */
function isOnePacket(copy: Fd): boolean {
  const before = bytesToRead(copy);
  readSync(copy, Buffer.alloc(1), 0, 1, null);
  return bytesToRead(copy) !== before - 1;
}

/** What was saved of one pipe. */
export interface PipeData {
  readonly entry: PipeDataEntry;
  readonly data: Buffer;
}

const readBack = new WeakMap<RestoreSession, Map<DataKind, ReadonlyMap<number, PipeData>>>();

/** Capacity and data of pipe `pipeId`, if any were saved. */
export function savedPipeData(session: RestoreSession, kind: DataKind, pipeId: number): PipeData | undefined {
  const read = readBack.get(session) ?? new Map<DataKind, ReadonlyMap<number, PipeData>>();
  readBack.set(session, read);
  let byPipe = read.get(kind);
  if (byPipe === undefined) {
    const records = session.images.records(kind, [], pipeDataEntry, (e) => e.bytes);
    byPipe = new Map(records.map((r) => [r.value.pipe_id, { entry: r.value, data: r.extra }]));
    read.set(kind, byPipe);
  }
  return byPipe.get(pipeId);
}

/** Sets the capacity and puts the data back through an end for writing, which must not block. */
export function refill(writer: Fd, { entry, data }: PipeData): void {
  const size = entry.size ?? DEFAULT_CAPACITY;
  if (size > MAX_CAPACITY || data.length > size) {
    throw new ImageError({
      code: "IMAGE_BAD_VALUE",
      place: { file: "pipes-data.img", message: "pipe_data_entry", field: "size" },
      because: `pipe ${entry.pipe_id} of ${size} bytes cannot hold ${data.length}`,
      remedy: ["Dump the process again"],
    });
  }
  if (size !== getPipeSize(writer)) setPipeSize(writer, size);
  if (entry.packets.length === 0) {
    for (let at = 0; at < data.length; ) at += writeSync(writer, data, at);
    return;
  }
  // Flags are set to their saved values when the descriptor is given away.
  setStatusFlags(writer, O_NONBLOCK | O_DIRECT);
  let at = 0;
  for (const length of entry.packets) {
    writeSync(writer, data.subarray(at, at + length));
    at += length;
  }
  setStatusFlags(writer, O_NONBLOCK);
}

/** A pipe of one restore: its ends as made, and which of them have been given away. */
interface MadePipe {
  readonly ends: { readonly [O_RDONLY]: Fd; readonly [O_WRONLY]: Fd };
  readonly given: Set<number>;
}

const made = new WeakMap<RestoreSession, Map<number, MadePipe>>();

function pipeOf(pipeId: number, session: RestoreSession): MadePipe {
  const all = made.get(session) ?? new Map<number, MadePipe>();
  made.set(session, all);
  let pipe = all.get(pipeId);
  if (pipe === undefined) {
    const { readEnd, writeEnd } = pipe2(O_CLOEXEC | O_NONBLOCK);
    pipe = { ends: { [O_RDONLY]: readEnd, [O_WRONLY]: writeEnd }, given: new Set() };
    all.set(pipeId, pipe);
    session.closeLater(readEnd);
    session.closeLater(writeEnd);
    const data = savedPipeData(session, "PIPES_DATA", pipeId);
    if (data !== undefined) refill(writeEnd, data);
  }
  return pipe;
}

/**
 * A descriptor of ours for one open file description of a pipe.
 *
 * pipe(2) made the first one of each end. All others were opened through /proc, and it shows: open(2) sets O_LARGEFILE.
 */
function openEnd(pipe: MadePipe, flags: number): Fd {
  const mode = flags & O_ACCMODE;
  if ((mode === O_RDONLY || mode === O_WRONLY) && (flags & O_LARGEFILE) === 0 && !pipe.given.has(mode)) {
    pipe.given.add(mode);
    return dupFrom(pipe.ends[mode], 0);
  }
  const end = pipe.ends[mode === O_WRONLY ? O_WRONLY : O_RDONLY];
  return openat(AT_FDCWD, `/proc/self/fd/${end}`, { flags: mode | O_NONBLOCK | O_CLOEXEC });
}

export const pipes: FileKind<PipeEntry> = {
  name: "pipes/pipe",
  rows: ["file.pipe"],
  type: "PIPE",
  field: "pipe",
  isPathless: true,
  matches: ({ link }) => link.startsWith("pipe:["),
  dump(file, session) {
    const pipeId = Number(file.stat.ino);
    noteEnd(file, session);
    savePipeData(file, session, { kind: "PIPES_DATA", pipeId });
    return { id: file.id, pipe_id: pipeId, flags: file.info.flags, fown: file.fown };
  },
  open(entry, session) {
    const fd = openEnd(pipeOf(entry.pipe_id, session), entry.flags);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
  outside: { names: ({ pipe_id }) => [`pipe:[${pipe_id}]`], flags: ({ flags }) => flags },
};
