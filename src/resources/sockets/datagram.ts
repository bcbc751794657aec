/**
 * Datagram and raw sockets of IPv4 and IPv6: their state, what waits at UDP sockets, and how all of them are made together.
 */
import { closeSync } from "node:fs";
import { dupFrom } from "../../linux/fcntl.js";
import { SOCKET_STATE, inetShutdowns } from "../../linux/sock-diag.js";
import { SOCK_STREAM, connect, pollOnce } from "../../linux/sockets.js";
import { POLLERR, POLLHUP, POLLRDHUP } from "../../linux/streams.js";
import { afterDescriptors } from "../files/table.js";
import type { DumpSession, Fd, OpenFile, RestoreSession } from "../part.js";
import { corkAgain, readCork } from "./corked.js";
import { addressOf, inetEntries } from "./inet-address.js";
import type { InetKind } from "./inet-options.js";
import { BOTH, READ, bound, finish, hasPeer, isUdp } from "./inet-socket.js";
import type { InetSkEntry } from "./inet.schema.js";
import { joinAgain } from "./memberships.js";
import { socketTitle } from "./other.js";
import { offsetGuard } from "./peek-guard.js";
import { peekMessages } from "./peek.js";
import { saveQueue } from "./queue.js";
import { isPing, listed } from "./raw.js";
import { byReuseportIndex } from "./unseen-options.js";
import { closeEntry } from "./udp-arrival.js";
import { readErrors, raiseErrors } from "./udp-errors.js";
import { allInMemory, withEmpty } from "./udp-empty.js";
import { isApart, refillApart, refillUdp } from "./udp-queue.js";

type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

/** A datagram socket is "established" when it is connected. */
export function datagramState(
  file: OpenFile,
  { kind, stop, session, isConnected }: { kind: InetKind; stop: Stop; session: DumpSession; isConnected: boolean },
): Pick<InetSkEntry, "state" | "backlog" | "shutdown" | "cork" | "so_error"> & Partial<Pick<InetSkEntry, "errors">> {
  const { local, stat } = file;
  const cork = isPing(kind) ? undefined : readCork(local, kind);
  if (cork === "unreadable")
    stop(
      "UDP_CORKED",
      "it holds a datagram that is not complete (MSG_MORE or UDP_CORK), and that cannot be read here",
      "Let the program finish what it sends",
    );
  if (!isUdp(kind) && (listed(file, kind)?.waitingBytes ?? 0) > 0)
    session.warn(`packets that wait to be read at fd ${file.fd} of process ${file.task.traced.pid}, ${socketTitle(local)}, are not saved`);
  const errors = isUdp(kind) ? readErrors(local, { session, title: () => socketTitle(local) }) : {};
  if (errors === "unreadable") {
    untouchable.add(file);
    stop(
      "UDP_ERROR_PENDING",
      "it has an error that its program has not been told of, and a look would take it away",
      "Let the program read it first",
      "Let Floe look at the kernel's memory: CAP_BPF, CAP_PERFMON, and type information (BTF)",
    );
  }
  if (!isUdp(kind) && (pollOnce(local, 0) & POLLERR) !== 0)
    session.warn(`an error that waits at fd ${file.fd} of process ${file.task.traced.pid}, ${socketTitle(local)}, is not saved`);
  const how = isUdp(kind) ? (inetShutdowns(kind.family, kind.proto).get(Number(stat.ino)) ?? 0) : rawShutdown(local);
  return {
    state: isConnected ? SOCKET_STATE.ESTABLISHED : SOCKET_STATE.CLOSE,
    backlog: 0,
    ...(cork === undefined || cork === "unreadable" ? {} : { cork }),
    ...(errors === "unreadable" ? {} : errors),
    ...(how === 0 ? {} : { shutdown: how as NonNullable<InetSkEntry["shutdown"]> }),
  };
}

/** The kernel tells of raw sockets only whether they may still receive; that one may not send alone cannot be seen. */
function rawShutdown(fd: Fd): number {
  const events = pollOnce(fd, POLLRDHUP);
  return (events & POLLHUP) !== 0 ? BOTH : (events & POLLRDHUP) !== 0 ? READ : 0;
}

/** Sockets that must not be read from: that would take an error away. */
const untouchable = new WeakSet<OpenFile>();

/** `hasError`: one that its program has not been told of. */
export function saveDatagrams(file: OpenFile, { family, hasError }: { family: number; hasError: boolean }, session: DumpSession): void {
  if (untouchable.has(file)) return;
  const local = dupFrom(file.local, 0);
  const { id, task } = file;
  afterDescriptors(session, () => {
    try {
      const peeked = () => withEmpty(local, peekMessages(local, { ends: false, guard: offsetGuard(file, { local, session }) }), family);
      const messages = hasError ? allInMemory(local, family) : peeked();
      if (messages !== undefined) saveQueue(messages, { id, task, session, local });
      else session.warn(`what waits behind an error at fd ${file.fd} of process ${task.traced.pid}, ${socketTitle(local)}, is not saved`);
    } finally {
      closeSync(local);
    }
  });
}

const datagramSockets = new WeakMap<RestoreSession, Map<number, Fd>>();

/** All datagram and raw sockets of a restore are made before one is connected or loses its right to share an address: some send to others. */
export function openDatagram(entry: InetSkEntry, session: RestoreSession): Fd {
  let made = datagramSockets.get(session);
  if (made === undefined) {
    const entries = byReuseportIndex(inetEntries(session)).filter(({ type }) => type !== SOCK_STREAM);
    made = new Map();
    datagramSockets.set(session, made);
    const apart = new Set(entries.filter((e) => isUdp(e) && isApart(e, session)));
    for (const e of entries) {
      const fd = apart.has(e) ? refillApart(e, session) : bound(e);
      session.closeLater(fd);
      made.set(e.id, fd);
    }
    for (const e of entries) if (!apart.has(e)) joinAgain(made.get(e.id) as Fd, e.memberships);
    for (const e of entries) if (isUdp(e) && !apart.has(e)) refillUdp(made.get(e.id) as Fd, e, session);
    closeEntry(session);
    for (const e of entries) {
      const fd = made.get(e.id) as Fd;
      const peer = addressOf(e, "dst");
      if (peer !== undefined && hasPeer(e)) connect(fd, peer);
      finish(fd, e);
      if (isUdp(e)) raiseErrors(fd, e, session);
      corkAgain(fd, e, session);
    }
  }
  const fd = made.get(entry.id);
  if (fd === undefined) throw new Error(`internal error: the datagram socket ${entry.id} has not been made`);
  return dupFrom(fd, 0);
}
