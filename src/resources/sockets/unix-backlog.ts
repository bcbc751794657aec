/**
 * What clients have sent over UNIX connections that no server has accepted yet.
 *
 * It lies in sockets that nobody has a descriptor of; only accepting the connections gets at it, and nothing puts them back.
 * So this is done when the tree is dead, through a duplicate of ours of the listening socket, which keeps all of it alive.
 * Room for it is taken before, so that a full disk makes the dump fail while the tree still lives.
 *
 * A tree that lives on must find it where it is: there it is looked at in the kernel's memory (unix-unseen.ts). So it is where descriptors
 * are among what was sent: their open files have to be dumped with the others.
 *
 * Read from   accept4(2), recvmsg(2) after the end of the tree
 * Made with   connect(2) and sendmsg(2) through the client or a socket in its place, see unix-restore.ts
 * Refused     when the tree lives on, or descriptors were sent, and the kernel's memory may not be read; descriptors that nobody else has
 */
import { closeSync, ftruncateSync, writeSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { MessageWriter } from "../../images/codec/encode.js";
import { imageFileName } from "../../images/kinds.js";
import { imageHead } from "../../images/sink.js";
import { encodeAddress } from "../../linux/addresses.js";
import { dupFrom } from "../../linux/fcntl.js";
import { fdInfoField } from "../../linux/proc/fdinfo.js";
import { readFdInfo } from "../../linux/proc/read.js";
import type { UnixSocketInfo } from "../../linux/sock-diag.js";
import { SCM_RIGHTS, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, accept4, getpeername } from "../../linux/sockets.js";
import type { DumpSession, Fd, OpenFile, RestoreSession } from "../part.js";
import { peekMessages, peekStream } from "./peek.js";
import type { SavedMessage } from "./queue.js";
import { type FloeUnixWaiting, floeUnixWaiting } from "./unix-backlog.schema.js";
import { readPeer, savedPid } from "./unix-donors.js";
import { rememberTree } from "./unseen-pids.js";
import type { UnixSkEntry } from "./unix.schema.js";

const FILE = imageFileName("FLOE_UNIX_BACKLOG", []);
/** For a client whose memory is not counted any more: what a socket holds by default (net.core.wmem_default), and a bit. */
const GONE_CLIENT_BYTES = 512 << 10;
const RECORD_BYTES = 4096;
/** At most, of an id. */
const VARINT_BYTES = 5;

/** A listening socket with connections to be taken. */
interface Taking {
  readonly id: number;
  readonly local: Fd;
  readonly info: UnixSocketInfo;
  /** Its message; clients that are not among those that wait there are left out. */
  readonly kept: UnixSkEntry;
  /** What was looked at instead: nothing is to be taken. */
  readonly seen?: readonly FloeUnixWaiting[];
}

/** All of one dump. */
interface Backlog {
  readonly image: Fd;
  readonly listeners: Taking[];
}

const backlogs = new WeakMap<DumpSession, Backlog>();

/** Whether anything waits at a listening socket that can be had only by accepting: data, or a client that is closed. */
export function mustBeTaken(info: UnixSocketInfo, sockets: ReadonlyMap<number, UnixSocketInfo>): boolean {
  return info.pending.some((client) => client === 0 || (sockets.get(client)?.queues.send ?? 0) > 0);
}

/** How many descriptors are among what was sent to a listening socket and not accepted. */
export function descriptorsWaiting(local: Fd): number {
  return Number(fdInfoField(readFdInfo(process.pid, local), "scm_fds") ?? 0);
}

/** Takes what waits at the listening socket when the tree is dead, and writes that or what was seen. */
export function takeLater(
  file: OpenFile,
  info: UnixSocketInfo,
  from: { session: DumpSession; kept: UnixSkEntry; roomBytes: number; seen?: readonly FloeUnixWaiting[] },
): void {
  const { session, kept, roomBytes, seen } = from;
  rememberTree(session);
  let backlog = backlogs.get(session);
  if (backlog === undefined) {
    const made: Backlog = { image: dupFrom(session.images.rawFile(FILE), 0), listeners: [] };
    backlog = made;
    backlogs.set(session, made);
    session.takeBack(() => dismiss(made));
    session.afterDeath(() => {
      try {
        save(made, session);
      } finally {
        dismiss(made);
      }
    });
  }
  backlog.listeners.push({ id: file.id, local: dupFrom(file.local, 0), info, kept, ...(seen && { seen }) });
  const room = Buffer.alloc(1 << 16);
  for (let left = roomBytes + RECORD_BYTES * info.pending.length; left > 0; left -= room.length) writeSync(backlog.image, room);
}

/** Writes what was looked at of a tree that lives on; clients that are left outside are left out. */
export function saveWaiting(waiting: readonly FloeUnixWaiting[], kept: UnixSkEntry, { images }: DumpSession): void {
  for (const value of waiting)
    if (kept.pending.includes(value.client)) images.append("FLOE_UNIX_BACKLOG", [], { type: floeUnixWaiting, value });
}

/** Bytes that what clients have sent can be at most. */
export function roomFor(local: Fd, info: UnixSocketInfo, sockets: ReadonlyMap<number, UnixSocketInfo>): number {
  const rights = descriptorsWaiting(local) * VARINT_BYTES;
  return info.pending.reduce((sum, client) => sum + (sockets.get(client)?.queues.send ?? GONE_CLIENT_BYTES), rights);
}

function dismiss({ image, listeners }: Backlog): void {
  for (const { local } of listeners.splice(0)) closeSync(local);
  closeSync(image);
}

function save({ image, listeners }: Backlog, session: DumpSession): void {
  const writer = new MessageWriter();
  writer.raw(imageHead("FLOE_UNIX_BACKLOG"));
  for (const { id, local, info, kept, seen } of listeners) {
    const all = seen ?? info.pending.map((client) => takeOne(local, info, { session, id, client }));
    for (const waiting of all) if (kept.pending.includes(waiting.client)) writer.record(floeUnixWaiting, waiting);
  }
  const bytes = writer.written();
  for (let at = 0; at < bytes.length; ) at += writeSync(image, bytes, at, bytes.length - at, at);
  ftruncateSync(image, bytes.length);
}

function takeOne(
  listener: Fd,
  info: UnixSocketInfo,
  { session, id, client }: { session: DumpSession; id: number; client: number },
): FloeUnixWaiting {
  const fd = accept4(listener, SOCK_CLOEXEC | SOCK_NONBLOCK);
  try {
    // The clients of the tree are closed by now as well: nothing more can come.
    const messages = info.type === SOCK_STREAM ? peekStream(fd) : peekMessages(fd, { ends: true });
    const waiting: FloeUnixWaiting = { listener: id, client, sent: [] };
    const connector = readPeer(fd, session);
    if (connector !== undefined) waiting.connector = connector;
    const name = client === 0 ? getpeername(fd) : undefined;
    if (name?.family === "unix" && name.name.length > 0) waiting.name = encodeAddress(name).subarray(2);
    waiting.sent = messages.map(({ data, credentials, urgent }) => ({
      data,
      rights: [],
      ...(credentials === undefined ? {} : { credentials: { ...credentials, pid: savedPid(credentials.pid, session) } }),
      ...(urgent === true ? { urgent } : {}),
    }));
    return waiting;
  } finally {
    closeSync(fd);
  }
}

/** A connection that waits at a listening socket, as saved. */
export interface Waiting {
  readonly entry: FloeUnixWaiting;
  readonly queue: readonly SavedMessage[];
}

/** Connections that wait at a listening socket, in their order. */
export function savedBacklog(listener: UnixSkEntry, { images }: RestoreSession): Waiting[] {
  if (listener.backlog_apart !== true) return [];
  return images
    .records("FLOE_UNIX_BACKLOG", [], floeUnixWaiting)
    .filter(({ value }) => value.listener === listener.id)
    .map(({ value }) => ({
      entry: value,
      queue: value.sent.map(({ data, credentials, urgent, rights }) => ({
        data: Buffer.from(data),
        entry: {
          id_for: listener.id,
          length: data.length,
          scm: rights.length === 0 ? [] : [{ type: SCM_RIGHTS, rights }],
          ...(credentials === undefined ? {} : { credentials }),
          ...(urgent === undefined ? {} : { urgent }),
        },
      })),
    }));
}

/** What is wrong with what was saved of connections that wait: a dumper that died after the tree did leaves it incomplete. */
export function checkBacklog(listener: UnixSkEntry, session: RestoreSession): ImageError[] {
  if (listener.backlog_apart !== true) return [];
  const found = savedBacklog(listener, session).map(({ entry }) => entry.client);
  if (found.length === listener.pending.length && found.every((client, i) => client === listener.pending[i])) return [];
  return [
    new ImageError({
      code: "IMAGE_INCOMPLETE",
      place: { file: FILE, message: "floe_unix_waiting" },
      because: `it has ${found.length} of ${listener.pending.length} connections that wait at UNIX socket ${listener.ino}`,
      remedy: ["Use an intact copy of the images directory", "Dump the process again"],
    }),
  ];
}
