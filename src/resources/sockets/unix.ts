/**
 * UNIX sockets: stream, datagram, seqpacket; connected, listening, named, or none of it.
 *
 * Read from   sock_diag(7), getsockopt(2), the node by SIOCUNIXFILE, queues by MSG_PEEK
 * Made with   unix-restore.ts
 */
import { closeSync, fstatSync, readlinkSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { Refusal } from "../../errors.js";
import { AF_UNIX } from "../../linux/addresses.js";
import { dupFrom } from "../../linux/fcntl.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { type UnixSocketInfo, SOCKET_STATE, unixSockets } from "../../linux/sock-diag.js";
import { SO, bytesUnread, unixSocketNode } from "../../linux/socket-options.js";
import { SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET, getsockoptInt } from "../../linux/sockets.js";
import { afterDescriptors, afterFiles } from "../files/table.js";
import { type FileEntry, fdTypes, fileEntry } from "../files/table.schema.js";
import { namespaceIds } from "../namespaces/ids.js";
import type { DumpSession, DumpTask, FileKind, OpenFile } from "../part.js";
import { isOfOtherNetns, readOptions, unreadableOption } from "./options.js";
import { peekMessages, peekStream } from "./peek.js";
import { saveQueue } from "./queue.js";
import { checkUnixSocket } from "./unix-check.js";
import { OUTSIDE, openUnixSocket } from "./unix-restore.js";
import type { UnixSkEntry } from "./unix.schema.js";

const TYPE_NAMES: Readonly<Record<number, string>> = { [SOCK_STREAM]: "stream", [SOCK_DGRAM]: "datagram", [SOCK_SEQPACKET]: "seqpacket" };
const RCV_SHUTDOWN = 1;
/** What one dump knows of UNIX sockets. */
interface Survey {
  readonly sockets: ReadonlyMap<number, UnixSocketInfo>;
  /** Listening sockets by the inode of a client that waits there. */
  readonly waitsAt: ReadonlyMap<number, number>;
  /** Inodes of sockets of the tree, and of peers that they need. */
  readonly dumped: Set<number>;
}

const surveys = new WeakMap<DumpSession, Survey>();

function surveyOf(session: DumpSession): Survey {
  let survey = surveys.get(session);
  if (survey === undefined) {
    const sockets = unixSockets();
    const waitsAt = new Map([...sockets.values()].flatMap((s) => s.pending.map((client) => [client, s.inode] as const)));
    survey = { sockets, waitsAt, dumped: new Set() };
    surveys.set(session, survey);
  }
  return survey;
}

/** How a socket is called in messages. */
export function unixSocketTitle(type: number, name: Uint8Array): string {
  const text = Buffer.from(name).toString("utf8").replace(/^\0/, "@").replace(/\0$/, "");
  return `the UNIX ${TYPE_NAMES[type] ?? `type ${type}`} socket ${text === "" ? "without a name" : `"${text}"`}`;
}

export const unixSocketKind: FileKind<UnixSkEntry> = {
  name: "sockets/unix",
  rows: [
    "unix.stream-named",
    "unix.pairs-queues",
    "unix.shutdown",
    "unix.dgram",
    "unix.unconnected",
    "unix.deleted-names",
    "unix.in-flight-connect",
    "unix.scm-rights",
    "unix.external",
  ],
  type: "UNIXSK",
  field: "usk",
  matches: ({ link, local }) => link.startsWith("socket:[") && getsockoptInt(local, { level: SOL_SOCKET, name: SO.DOMAIN }) === AF_UNIX,
  dump: (file, session) => dumpUnixSocket(file, session),
  open: (entry, session) => openUnixSocket(entry, session),
  check: (entry, session, use) => checkUnixSocket(entry, session, use),
};

function dumpUnixSocket(file: OpenFile, session: DumpSession): UnixSkEntry | undefined {
  const survey = surveyOf(session);
  const inode = Number(file.stat.ino);
  const info = survey.sockets.get(inode);
  if (info === undefined || isOfOtherNetns(file.local)) {
    session.refuse(
      refusal(file, {
        code: "SOCKET_OTHER_NETNS",
        title: "a UNIX socket",
        because: "it belongs to another network namespace than its process",
        remedy: ["Make sockets in the namespace where they are used"],
      }),
    );
    return undefined;
  }
  survey.dumped.add(inode);
  const title = unixSocketTitle(info.type, info.name ?? new Uint8Array());
  const stop: Stop = (code, because, ...remedy) => session.refuse(refusal(file, { code, title, because, remedy }));
  const option = unreadableOption(file.local);
  if (option !== undefined) stop("SOCKET_OPTION_UNREADABLE", option, "Take the filter off before the dump");
  saveOutside(info.peer ?? 0, session);
  const place = placeOf(file, info, stop);
  const entry: UnixSkEntry = {
    id: file.id,
    ino: inode,
    type: info.type,
    state: info.state,
    flags: file.info.flags,
    uflags: 0,
    backlog: info.queues.send,
    peer: peerOf(file, info, { survey, stop }),
    fown: file.fown,
    opts: readOptions(file.local),
    name: info.name ?? Buffer.alloc(0),
    ns_id: namespaceIds(file.task.traced.pid).net_ns_id,
    ...place,
  };
  if (info.type === SOCK_DGRAM && info.peer === 0 && entry.name.length > 0) entry.peer_gone = true;
  if (info.shutdown !== 0) entry.shutdown = info.shutdown as NonNullable<UnixSkEntry["shutdown"]>;
  if (info.state === SOCKET_STATE.LISTEN) checkWaiting(info, { session, stop });
  else queueLater(file, info, { session, stop });
  return entry;
}

type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

function refusal(
  file: OpenFile,
  { code, title, because, remedy }: { code: string; title: string; because: string; remedy: [string, ...string[]] },
): Refusal {
  return new Refusal({
    code,
    process: { pid: file.task.traced.pid, comm: file.task.comm },
    resource: `fd ${file.fd}, ${title}`,
    because,
    remedy,
  });
}

/** The number that stands for the peer in the image: its inode, or that of the listening socket where we wait; 0: none. */
function peerOf(file: OpenFile, info: UnixSocketInfo, { survey, stop }: { survey: Survey; stop: Stop }): number {
  const listener = survey.waitsAt.get(info.inode);
  if (listener !== undefined) {
    // What the client has sent lies in a socket that nobody has a descriptor of.
    if (bytesUnread(file.local) > 0)
      stop(
        "UNIX_DATA_UNACCEPTED",
        "it has sent data over a connection that has not been accepted yet",
        "Let the server accept the connection first",
      );
    return listener;
  }
  return info.peer ?? 0;
}

/** Clients that wait at a listener must be ours: they are connected anew. */
function checkWaiting(info: UnixSocketInfo, { session, stop }: { session: DumpSession; stop: Stop }): void {
  if (info.pending.includes(0))
    stop("UNIX_CLIENT_GONE", "a client has connected and closed before the server accepted", "Let the server accept its connections first");
  afterFiles(session, () => {
    const { dumped } = surveyOf(session);
    if (info.pending.every((client) => client === 0 || dumped.has(client))) return;
    stop(
      "UNIX_PEER_OUTSIDE",
      "a client outside the tree waits to be accepted",
      "Let the server accept the connection, then dump both ends",
    );
  });
}

/** What waits in the queue, when all descriptors are known; peers outside the tree, when all files are. */
function queueLater(file: OpenFile, info: UnixSocketInfo, { session, stop }: { session: DumpSession; stop: Stop }): void {
  afterFiles(session, () => checkPeer(info, session, stop));
  if (info.type !== SOCK_DGRAM && info.state !== SOCKET_STATE.ESTABLISHED) return;
  const local = dupFrom(file.local, 0);
  const { id, task } = file;
  afterDescriptors(session, () => {
    try {
      saveMessages(local, info, { id, task, session, stop });
    } finally {
      closeSync(local);
    }
  });
}

function checkPeer(info: UnixSocketInfo, session: DumpSession, stop: Stop): void {
  const survey = surveyOf(session);
  const peer = survey.waitsAt.get(info.inode) ?? info.peer;
  if (peer === undefined || peer === 0 || survey.dumped.has(peer)) return;
  const other = survey.sockets.get(peer);
  stop(
    "UNIX_PEER_OUTSIDE",
    `it is connected to ${other === undefined ? "a socket" : unixSocketTitle(other.type, other.name ?? new Uint8Array())} (inode ${peer}) outside the tree`,
    "Dump the process at the other end too, as part of one tree",
    ...(info.type === SOCK_DGRAM ? ["Leave it outside with --ext-unix-sk, if it has an absolute name"] : []),
  );
}

/** The entry of a peer outside the tree comes before those that refer to it: CRIU wants it so. */
function saveOutside(peer: number, session: DumpSession): void {
  const survey = surveyOf(session);
  const other = survey.sockets.get(peer);
  if (other === undefined || survey.dumped.has(peer) || !isAllowedOutside(other, session) || isHeld(peer, session)) return;
  survey.dumped.add(peer);
  session.images.append("FILES", [], { type: fileEntry, value: outsideEntry(other, session.newFileId()) });
}

/** Whether a process of the tree has a descriptor of the socket. */
function isHeld(inode: number, session: DumpSession): boolean {
  return session.tasks.some(({ traced: { pid } }) =>
    readFdNumbers(pid).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`),
  );
}

/** Datagram sockets are found again by their name, if it means the same everywhere. */
function isAllowedOutside({ type, inode, name }: UnixSocketInfo, { options }: DumpSession): boolean {
  if (type !== SOCK_DGRAM || name === undefined || (name[0] !== 0 && name[0] !== "/".charCodeAt(0))) return false;
  return options.extUnixSk && (options.extUnixSkInodes.length === 0 || options.extUnixSkInodes.includes(inode));
}

const NO_OWNER = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };
const NO_OPTIONS = {
  so_sndbuf: 0,
  so_rcvbuf: 0,
  so_snd_tmo_sec: 0n,
  so_snd_tmo_usec: 0n,
  so_rcv_tmo_sec: 0n,
  so_rcv_tmo_usec: 0n,
  so_filter: [],
};

/** A socket outside the tree: its name is all that matters. */
function outsideEntry({ type, inode, name }: UnixSocketInfo, id: number): FileEntry {
  const usk: UnixSkEntry = {
    id,
    ino: inode,
    type,
    state: SOCKET_STATE.LISTEN,
    flags: 0,
    uflags: OUTSIDE,
    backlog: 0,
    peer: 0,
    fown: NO_OWNER,
    opts: NO_OPTIONS,
    name: name ?? Buffer.alloc(0),
  };
  return { type: fdTypes.values.UNIXSK, id, usk };
}

function saveMessages(
  local: number,
  info: UnixSocketInfo,
  { id, task, session, stop }: { id: number; task: DumpTask; session: DumpSession; stop: Stop },
): void {
  const messages =
    info.type === SOCK_STREAM
      ? peekStream(local)
      : peekMessages(local, { ends: info.type === SOCK_SEQPACKET && (info.shutdown & RCV_SHUTDOWN) !== 0 });
  for (const { unknown } of messages) {
    for (const { level, type } of unknown)
      stop(
        "SOCKET_CONTROL_MESSAGE",
        `a queued message carries a control message of level ${level} and type ${type}`,
        "Let the program read its messages first",
      );
  }
  saveQueue(messages, { id, task, session });
}

type Place = Pick<UnixSkEntry, "file_perms" | "name_dir" | "deleted">;

/** Where in the file system the socket is. */
function placeOf(file: OpenFile, info: UnixSocketInfo, stop: Stop): Place {
  if (info.name === undefined || info.name[0] === 0) return {};
  const node = unixSocketNode(file.local);
  if (node === undefined) return {};
  try {
    const stat = fstatSync(node, { bigint: true });
    const file_perms = { mode: Number(stat.mode), uid: Number(stat.uid), gid: Number(stat.gid) };
    const link = readlinkSync(`/proc/self/fd/${node}`);
    const there = statSync(link, { bigint: true, throwIfNoEntry: false });
    const isDeleted = there === undefined || there.ino !== stat.ino || there.dev !== stat.dev;
    const path = isDeleted ? link.replace(/ \(deleted\)$/, "") : link;
    const name = info.name.toString("latin1").replace(/\0.*$/s, "");
    const directory = directoryOf(Buffer.from(name, "latin1").toString("utf8"), path, readlinkSync(`/proc/${file.task.traced.pid}/cwd`));
    if (directory === undefined) {
      stop(
        "UNIX_NAME_HIDDEN",
        `its node is at "${path}", which its name does not lead to`,
        "Use socket names that lead to the same file for every process",
      );
      return {};
    }
    return { file_perms, name_dir: directory, ...(isDeleted ? { deleted: true } : {}) };
  } finally {
    closeSync(node);
  }
}

/** A directory from which `name` leads to `path`; undefined: there is none. */
function directoryOf(name: string, path: string, cwd: string): string | undefined {
  if (name.startsWith("/")) return isSamePlace(name, path) ? "/" : undefined;
  if (isSamePlace(join(cwd, name), path)) return cwd;
  const tail = `/${normalize(name)}`;
  return path.endsWith(tail) ? path.slice(0, -tail.length) || "/" : undefined;
}

function isSamePlace(a: string, b: string): boolean {
  if (normalize(a) === b) return true;
  const one = statSync(dirname(a), { bigint: true, throwIfNoEntry: false });
  const other = statSync(dirname(b), { bigint: true, throwIfNoEntry: false });
  return (
    one !== undefined &&
    other !== undefined &&
    one.ino === other.ino &&
    one.dev === other.dev &&
    a.split("/").at(-1) === b.split("/").at(-1)
  );
}
