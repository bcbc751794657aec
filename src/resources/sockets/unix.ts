/**
 * UNIX sockets: stream, datagram, seqpacket; connected, listening, named, or none of it.
 *
 * Read from   sock_diag(7), getsockopt(2), the node by SIOCUNIXFILE, queues by MSG_PEEK
 * Made with   unix-restore.ts
 */
import { closeSync, fstatSync } from "node:fs";
import { dirname, join, normalize } from "../../linux/named-paths.js";
import { readlinkSync, statSync } from "../../linux/named-files.js";
import { Refusal, type RefusalInit } from "../../errors.js";
import { AF_UNIX } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { dupFrom } from "../../linux/fcntl.js";
import { bytesToRead } from "../../linux/pipes.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo, readMountinfo } from "../../linux/proc/read.js";
import { type UnixSocketInfo, SOCKET_STATE, unixSockets } from "../../linux/sock-diag.js";
import { unixSocketNode } from "../../linux/socket-options.js";
import { SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, pollOnce } from "../../linux/sockets.js";
import { POLLERR } from "../../linux/streams.js";
import { afterDescriptors, afterFiles } from "../files/table.js";
import { type FileEntry, fdTypes, fileEntry } from "../files/table.schema.js";
import { namespaceIds } from "../namespaces/ids.js";
import type { DumpSession, DumpTask, FileKind, OpenFile } from "../part.js";
import { askSocket, socketKindOf } from "./asked.js";
import { isOfOtherNetns, readOptions, unreadableOption } from "./options.js";
import { offsetGuard } from "./peek-guard.js";
import { type OffsetGuard, peekMessages, peekStream, refuseUnknown } from "./peek.js";
import { saveQueue, saveSeen } from "./queue.js";
import { descriptorsWaiting, mustBeTaken, roomFor, saveWaiting, takeLater } from "./unix-backlog.js";
import { checkUnixSocket } from "./unix-check.js";
import { peerOfTask, readPeer } from "./unix-donors.js";
import { OUTSIDE } from "./unix-making.js";
import { findRights, lookAtQueue, lookAtWaiting } from "./unix-unseen.js";
import { openUnixSocket } from "./unix-restore.js";
import { OutsideHolders, type OutsideRule, ruleFor } from "./unix-outside.js";
import type { UnixSkEntry } from "./unix.schema.js";
import { textOf } from "../../linux/text.js";

const TYPE_NAMES: Readonly<Record<number, string>> = { [SOCK_STREAM]: "stream", [SOCK_DGRAM]: "datagram", [SOCK_SEQPACKET]: "seqpacket" };
const RCV_SHUTDOWN = 1;
/** What one dump knows of UNIX sockets. */
interface Survey {
  readonly sockets: ReadonlyMap<number, UnixSocketInfo>;
  /** Listening sockets by the inode of a client that waits there. */
  readonly waitsAt: ReadonlyMap<number, number>;
  /** Inodes of sockets of the tree, and of peers that they need. */
  readonly dumped: Set<number>;
  /** What becomes of connections to peers outside, by the inodes of these. */
  readonly outside: Map<number, NonNullable<OutsideRule>>;
  readonly holders: OutsideHolders;
}

const surveys = new WeakMap<DumpSession, Survey>();

function surveyOf(session: DumpSession): Survey {
  let survey = surveys.get(session);
  if (survey === undefined) {
    const sockets = unixSockets();
    const waitsAt = new Map([...sockets.values()].flatMap((s) => s.pending.map((client) => [client, s.inode] as const)));
    survey = { sockets, waitsAt, dumped: new Set(), outside: new Map(), holders: new OutsideHolders() };
    surveys.set(session, survey);
  }
  return survey;
}

/** How a socket is called in messages. */
export function unixSocketTitle(type: number, name: Uint8Array): string {
  const text = textOf(Buffer.from(name)).replace(/^\0/, "@").replace(/\0$/, "");
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
    "unix.mntns",
    "unix.peercred",
  ],
  type: "UNIXSK",
  field: "usk",
  isPathless: true,
  matches: (file) => file.link.startsWith("socket:[") && socketKindOf(file).family === AF_UNIX,
  dump: (file, session) => dumpUnixSocket(file, session),
  open: (entry, session) => openUnixSocket(entry, session),
  check: (entry, session, use) => checkUnixSocket(entry, session, use),
  outside: { names: ({ ino }) => [`socket:[${ino}]`], flags: ({ flags }) => flags },
};

function dumpUnixSocket(file: OpenFile, session: DumpSession): UnixSkEntry | undefined {
  const survey = surveyOf(session);
  const inode = Number(file.stat.ino);
  const info = survey.sockets.get(inode);
  const kind = socketKindOf(file);
  const asked = askSocket(file.local, kind, session);
  if (info === undefined || isOfOtherNetns(file.local, { asked, session })) {
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
  const stop: Stop = (code, why, ...remedy) => {
    const because = typeof why === "string" ? { because: why } : why;
    session.refuse(refusal(file, { code, title, ...because, remedy }));
  };
  const option = unreadableOption(file.local, asked);
  if (option !== undefined) stop("SOCKET_OPTION_UNREADABLE", option, "Take the filter off before the dump");
  // A client that waits has the listening socket where it does so as its peer.
  const peer = survey.waitsAt.get(inode) ?? info.peer ?? 0;
  const outside = saveOutside(peer, session);
  const place = placeOf(file, info);
  const entry: UnixSkEntry = {
    id: file.id,
    ino: inode,
    type: info.type,
    state: info.state,
    flags: file.info.flags,
    uflags: 0,
    backlog: info.queues.send,
    peer: outside === "close" ? 0 : peer,
    fown: file.fown,
    opts: readOptions(file.local, kind, asked),
    name: info.name ?? Buffer.alloc(0),
    ns_id: namespaceIds(file.task.traced).net_ns_id,
    pending: [...info.pending],
    ...place,
  };
  const peercred = readPeer(file.local, session);
  if (peercred !== undefined) entry.peercred = peercred;
  if (outside === "close" && info.type === SOCK_DGRAM) entry.peer_gone = true;
  if (survey.waitsAt.has(inode) || outside === "again") entry.connector = peerOfTask(file.task);
  if (info.type === SOCK_DGRAM && info.peer === 0 && entry.name.length > 0) entry.peer_gone = true;
  if (info.shutdown !== 0) entry.shutdown = info.shutdown as NonNullable<UnixSkEntry["shutdown"]>;
  if ((pollOnce(file.local, 0) & POLLERR) !== 0) entry.so_error = ERRNO.ECONNRESET;
  if (info.state === SOCKET_STATE.LISTEN) checkWaiting(file, info, { entry, session, stop });
  else queueLater(file, info, { entry, session, stop });
  return entry;
}

type Stop = (code: string, because: string | Because, ...remedy: [string, ...string[]]) => void;

/** A reason, and what takes longer to find than the tree may stand still. */
type Because = Pick<RefusalInit, "because" | "besides">;

interface Told extends Pick<RefusalInit, "code" | "because" | "remedy" | "besides"> {
  readonly title: string;
}

function refusal(file: OpenFile, { title, ...told }: Told): Refusal {
  const process = { pid: file.task.traced.pid, comm: file.task.comm };
  return new Refusal({ ...told, process, resource: `fd ${file.fd}, ${title}` });
}

/** Clients that wait at a listener must be ours: they are connected anew. */
function checkWaiting(file: OpenFile, info: UnixSocketInfo, { entry, session, stop }: Dumping): void {
  const { sockets } = surveyOf(session);
  if (mustBeTaken(info, sockets)) {
    if (session.livesOn || descriptorsWaiting(file.local) > 0) lookLater(file, info, { entry, session, stop });
    else {
      entry.backlog_apart = true;
      takeLater(file, info, { session, kept: entry, roomBytes: roomFor(file.local, info, sockets) });
    }
  }
  // Those that the user leaves outside are broken off when the listening socket goes.
  entry.pending = entry.pending.filter((client) => client === 0 || !isLeftOutside(client, session));
  afterFiles(session, () => {
    const { dumped, holders } = surveyOf(session);
    const foreign = entry.pending.find((client) => client !== 0 && !dumped.has(client));
    if (foreign === undefined) return;
    stop(
      "UNIX_PEER_OUTSIDE",
      { because: "a client outside the tree waits to be accepted", besides: () => holders.describe(foreign) },
      "Let the server accept the connection, then dump both ends",
      "Have it broken off: --external unix[]",
    );
  });
}

/** What may not be taken is looked at; descriptors that were sent are found among those of the tree. */
function lookLater(file: OpenFile, info: UnixSocketInfo, { entry, session, stop }: Dumping): void {
  const seen = lookAtWaiting(file.local, info, { id: file.id, session });
  if (seen === undefined) {
    if (session.livesOn) refuseToTake(info, stop);
    if (descriptorsWaiting(file.local) > 0) refuseDescriptors(stop);
    return;
  }
  entry.backlog_apart = true;
  if (seen.files.size > 0) afterDescriptors(session, () => findRights(seen, session) || refuseDescriptors(stop));
  if (session.livesOn) session.later(() => saveWaiting(seen.waiting, entry, session));
  else {
    const roomBytes = roomFor(file.local, info, surveyOf(session).sockets);
    takeLater(file, info, { session, kept: entry, roomBytes, seen: seen.waiting });
  }
}

function refuseDescriptors(stop: Stop): void {
  stop(
    "UNIX_DESCRIPTORS_UNACCEPTED",
    "a client has sent descriptors over a connection that has not been accepted yet, and they cannot be found in another process",
    "Let the server accept its connections first",
    "Let the client keep its own descriptors until they have been received",
  );
}

function isLeftOutside(client: number, session: DumpSession): boolean {
  const info = surveyOf(session).sockets.get(client);
  return info !== undefined && ruleFor(info, session) !== undefined && !isHeld(client, session);
}

/** A socket being dumped. */
interface Dumping {
  readonly entry: UnixSkEntry;
  readonly session: DumpSession;
  readonly stop: Stop;
}

/** No system call but accept(2) tells what a client has sent, and a tree that lives on must find it there. */
function refuseToTake(info: UnixSocketInfo, stop: Stop): void {
  const remedy = [
    "Let the server accept its connections first",
    "Dump the tree for good, without --leave-running",
    "Let Floe look at the kernel's memory: CAP_BPF, CAP_PERFMON, and type information (BTF)",
  ] as const;
  if (info.pending.includes(0)) stop("UNIX_CLIENT_GONE", "a client has connected and closed before the server accepted", ...remedy);
  if (info.pending.some((client) => client !== 0))
    stop("UNIX_DATA_UNACCEPTED", "a client has sent data over a connection that has not been accepted yet", ...remedy);
}

/** What waits in the queue, when all descriptors are known; peers outside the tree, when all files are. */
function queueLater(file: OpenFile, info: UnixSocketInfo, { entry, session, stop }: Dumping): void {
  afterFiles(session, () => checkPeer(info, session, stop));
  if (info.type !== SOCK_DGRAM && info.state !== SOCKET_STATE.ESTABLISHED) return;
  if (entry.so_error !== undefined && info.type !== SOCK_STREAM) {
    // Such a socket shows its error, once, before what waits in it.
    if (bytesToRead(file.local) === 0) return;
    if (seenBehindError(file, session)) return;
    if (session.options.leaveRunning === true || session.options.leaveStopped === true) {
      stop(
        "UNIX_ERROR_PENDING",
        "it has an error (ECONNRESET) and messages that its program has not read, and a look at these would take the error away",
        "Let the program read them first",
        "Dump the tree for good, without --leave-running",
      );
      return;
    }
  }
  peekLater(file, info, { session, stop });
}

/** Messages behind an error, which a look by recvmsg(2) would take away. False: they cannot be seen in the kernel's memory. */
function seenBehindError(file: OpenFile, session: DumpSession): boolean {
  const seen = lookAtQueue(file.local, session);
  if (seen === undefined || seen.files.size > 0) return false;
  saveSeen(seen.sent, { id: file.id, from: seen.from, session });
  return true;
}

function peekLater(file: OpenFile, info: UnixSocketInfo, { session, stop }: { session: DumpSession; stop: Stop }): void {
  const local = dupFrom(file.local, 0);
  const { id, task } = file;
  afterDescriptors(session, () => {
    try {
      saveMessages(local, info, { id, task, session, stop, guard: offsetGuard(file, { local, session }) });
    } finally {
      closeSync(local);
    }
  });
}

function checkPeer(info: UnixSocketInfo, session: DumpSession, stop: Stop): void {
  const survey = surveyOf(session);
  const peer = survey.waitsAt.get(info.inode) ?? info.peer;
  if (peer === undefined || peer === 0 || survey.dumped.has(peer) || survey.outside.has(peer)) return;
  const other = survey.sockets.get(peer);
  const title = other === undefined ? "a socket" : unixSocketTitle(other.type, other.name ?? new Uint8Array());
  stop(
    "UNIX_PEER_OUTSIDE",
    { because: `it is connected to ${title} (inode ${peer}) outside the tree`, besides: () => survey.holders.describe(peer) },
    "Dump the process at the other end too, as part of one tree",
    `Leave the peer outside: --external unix[${peer}] connects again by its name, --external unix[${peer}]:close comes back closed`,
    ...(info.type === SOCK_DGRAM ? ["Leave it outside with --ext-unix-sk, if it has an absolute name"] : []),
  );
}

/** What the user decided about the peer of a socket, if that is outside. Its entry comes first: CRIU wants it so. */
function saveOutside(peer: number, session: DumpSession): OutsideRule {
  const survey = surveyOf(session);
  const known = survey.outside.get(peer);
  if (known !== undefined) return known;
  const other = survey.sockets.get(peer);
  if (other === undefined || survey.dumped.has(peer)) return undefined;
  const rule = ruleFor(other, session);
  if (rule === undefined || isHeld(peer, session)) return undefined;
  survey.outside.set(peer, rule);
  if (rule === "again") session.images.append("FILES", [], { type: fileEntry, value: outsideEntry(other, session.newFileId()) });
  return rule;
}

/** Whether a process of the tree has a descriptor of the socket. */
function isHeld(inode: number, session: DumpSession): boolean {
  return session.tasks.some(({ traced: { pid } }) =>
    readFdNumbers(pid).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`),
  );
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
  more: [],
  more_bytes: [],
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
    pending: [],
  };
  return { type: fdTypes.values.UNIXSK, id, usk };
}

function saveMessages(
  local: number,
  info: UnixSocketInfo,
  { id, task, session, stop, guard }: { id: number; task: DumpTask; session: DumpSession; stop: Stop; guard: OffsetGuard },
): void {
  const messages =
    info.type === SOCK_STREAM
      ? peekStream(local, guard)
      : peekMessages(local, { ends: info.type === SOCK_SEQPACKET && (info.shutdown & RCV_SHUTDOWN) !== 0, guard });
  refuseUnknown(messages, stop);
  saveQueue(messages, { id, task, session, local });
}

type Place = Pick<UnixSkEntry, "file_perms" | "name_dir" | "deleted" | "root" | "node">;

/** Where in the file system the socket is. */
function placeOf(file: OpenFile, info: UnixSocketInfo): Place {
  if (info.name === undefined || info.name[0] === 0) return {};
  const node = unixSocketNode(file.local);
  if (node === undefined) return {};
  try {
    const stat = fstatSync(node, { bigint: true });
    const file_perms = { mode: Number(stat.mode), uid: Number(stat.uid), gid: Number(stat.gid) };
    const cwd = readlinkSync(`/proc/${file.task.traced.pid}/cwd`);
    const link = readlinkSync(`/proc/self/fd/${node}`);
    const there = statSync(link, { bigint: true, throwIfNoEntry: false });
    const isDeleted = there === undefined || there.ino !== stat.ino || there.dev !== stat.dev;
    // In a mount namespace that is gone, or another one's: no name leads there from here, as if the node were deleted.
    if (isDeleted && !isMountedHere(node)) return { file_perms, name_dir: info.name[0] === "/".charCodeAt(0) ? "/" : cwd, deleted: true };
    const path = isDeleted ? link.replace(/ \(deleted\)$/, "") : link;
    const text = textOf(info.name).replace(/\0.*$/s, "");
    const gone = isDeleted ? { deleted: true } : {};
    const directory = directoryOf(text, path, cwd);
    if (directory === undefined) {
      const root = readlinkSync(`/proc/${file.task.traced.pid}/root`);
      if (text.startsWith("/") && isSamePlace(join(root, text), path)) return { file_perms, name_dir: "/", root, ...gone };
      return { file_perms, name_dir: text.startsWith("/") ? "/" : cwd, node: path, ...gone };
    }
    return { file_perms, name_dir: directory, ...gone };
  } finally {
    closeSync(node);
  }
}

/** Whether what a descriptor of ours is of lies on a mount of our mount namespace. */
function isMountedHere(fd: number): boolean {
  const { mntId } = readFdInfo(process.pid, fd);
  return readMountinfo(process.pid).some(({ id }) => id === mntId);
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
