/**
 * Pipes: two ends of one buffer, each opened any number of times, with data in flight.
 *
 * Read from   fdinfo, fcntl(F_GETPIPE_SZ); the data by tee(2), which leaves it where it is
 * Made with   pipe2(2), /proc/self/fd/N for further descriptions of an end, fcntl(F_SETPIPE_SZ), write(2)
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { dupFrom, getPipeSize, setPipeSize, setStatusFlags } from "../../linux/fcntl.js";
import { O_ACCMODE, O_CLOEXEC, O_LARGEFILE, O_NONBLOCK, O_RDONLY, O_WRONLY, openat } from "../../linux/files.js";
import { bytesToRead, pipe2, tee } from "../../linux/pipes.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
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
  // An end for reading of our own, whichever end this descriptor is.
  const reader = openSync(`/proc/self/fd/${file.local}`, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const size = getPipeSize(reader);
    const data = peek(reader, size);
    if (data.length === 0 && size === DEFAULT_CAPACITY) return;
    session.images.append(kind, [], { type: pipeDataEntry, value: { pipe_id: pipeId, bytes: data.length, size }, extra: data });
  } finally {
    closeSync(reader);
  }
}

/** The bytes in a pipe, without taking them out. */
function peek(reader: Fd, capacity: number): Buffer {
  const bytes = bytesToRead(reader);
  if (bytes === 0) return Buffer.alloc(0);
  const copy = pipe2(O_CLOEXEC | O_NONBLOCK);
  try {
    if (capacity !== DEFAULT_CAPACITY) setPipeSize(copy.writeEnd, capacity);
    tee(reader, copy.writeEnd, bytes);
    const data = Buffer.alloc(bytes);
    let got = 0;
    while (got < bytes) got += readSync(copy.readEnd, data, got, bytes - got, null);
    return data;
  } finally {
    closeSync(copy.readEnd);
    closeSync(copy.writeEnd);
  }
}

/** Capacity and data of pipe `pipeId`, if any were saved. */
export function savedPipeData(session: RestoreSession, kind: DataKind, pipeId: number): { entry: PipeDataEntry; data: Buffer } | undefined {
  const records = session.images.records(kind, [], pipeDataEntry, (e) => e.bytes);
  const found = records.find((r) => r.value.pipe_id === pipeId);
  return found === undefined ? undefined : { entry: found.value, data: found.extra };
}

/** Sets the capacity and puts the data back through an end for writing, which must not block. */
export function refill(writer: Fd, { entry, data }: { entry: PipeDataEntry; data: Buffer }): void {
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
  for (let at = 0; at < data.length; ) at += writeSync(writer, data, at);
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
  matches: ({ link }) => link.startsWith("pipe:["),
  dump(file, session) {
    const pipeId = Number(file.stat.ino);
    savePipeData(file, session, { kind: "PIPES_DATA", pipeId });
    return { id: file.id, pipe_id: pipeId, flags: file.info.flags, fown: file.fown };
  },
  open(entry, session) {
    const fd = openEnd(pipeOf(entry.pipe_id, session), entry.flags);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
};
