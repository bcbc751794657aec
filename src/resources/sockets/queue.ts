/**
 * Queues of UNIX sockets: messages with their boundaries, the descriptors and credentials that travel with them.
 *
 * Read from   recvmsg(2) with MSG_PEEK, see peek.ts
 * Made with   sendmsg(2) from the peer, or from a socket that stands in for it
 */
import { KernelError } from "../../errors.js";
import { AF_UNIX, decodeAddress, encodeAddress, type SocketAddress } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { close } from "../../linux/files.js";
import {
  type ControlMessage,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_OOB,
  SCM_CREDENTIALS,
  SCM_RIGHTS,
  SOL_SOCKET,
  rightsMessage,
  sendmsg,
} from "../../linux/sockets.js";
import { dumpInFlight } from "../files/table.js";
import { insidePid, outsideOf } from "../tasks/pid-numbers.js";
import type { DumpSession, DumpTask, Fd, RestoreSession } from "../part.js";
import type { QueuedMessage } from "./peek.js";
import { type SkPacketEntry, skPacketEntry } from "./queue.schema.js";
import { arrivalOf } from "./udp-arrival.js";
import type { Names, Sent } from "./unix-unseen.js";
import { insideSender } from "./unseen-pids.js";

/** Writes the messages waiting in socket `id`, of which `local` is a descriptor of ours. Closes their descriptors. */
export function saveQueue(
  messages: readonly QueuedMessage[],
  { id, task, session, local }: { id: number; task: DumpTask; session: DumpSession; local: Fd },
): void {
  for (const message of messages) {
    const rights = message.fds.map((fd) => dumpInFlight(fd, { task, session }));
    const value: SkPacketEntry = { id_for: id, length: message.data.length, scm: [] };
    if (rights.length > 0) value.scm = [{ type: SCM_RIGHTS, rights: rights.filter((r) => r !== undefined) }];
    if (message.from !== undefined && isNamed(message.from)) value.from = encodeAddress(message.from);
    const { credentials } = message;
    if (credentials !== undefined) {
      const pid = insidePid(credentials.pid, session);
      value.credentials = { ...credentials, pid: pid === 0 ? insideSender(local, credentials.pid, session) : pid };
    }
    if (message.urgent === true) value.urgent = true;
    const arrival = arrivalOf(message.unknown, local);
    if (arrival !== undefined) value.arrival = arrival;
    session.images.append("SK_QUEUES", [], { type: skPacketEntry, value, extra: message.data });
  }
}

/** The same of messages that were seen in the kernel's memory: `from` has the names of their senders. */
export function saveSeen(sent: readonly Sent[], { id, from, session }: { id: number; from: Names; session: DumpSession }): void {
  for (const one of sent) {
    const { data, rights, credentials } = one;
    const value: SkPacketEntry = { id_for: id, length: data.length, scm: rights.length > 0 ? [{ type: SCM_RIGHTS, rights }] : [] };
    const name = from.get(one);
    if (name !== undefined) value.from = Buffer.concat([Buffer.from([AF_UNIX, 0]), name]);
    if (credentials !== undefined) value.credentials = credentials;
    session.images.append("SK_QUEUES", [], { type: skPacketEntry, value, extra: Buffer.from(data) });
  }
}

function isNamed(address: SocketAddress): boolean {
  return address.family !== "unix" || address.name.length > 0;
}

/** A saved message. */
export interface SavedMessage {
  readonly entry: SkPacketEntry;
  readonly data: Buffer;
}

const known = new WeakMap<RestoreSession, ReadonlyMap<number, SavedMessage[]>>();

/** All queues, by the id of the socket that is to receive them. */
export function savedQueues(session: RestoreSession): ReadonlyMap<number, SavedMessage[]> {
  const before = known.get(session);
  if (before !== undefined) return before;
  const queues = new Map<number, SavedMessage[]>();
  known.set(session, queues);
  for (const { value, extra } of session.images.records("SK_QUEUES", [], skPacketEntry, (e) => e.length)) {
    const queue = queues.get(value.id_for) ?? [];
    queue.push({ entry: value, data: extra });
    queues.set(value.id_for, queue);
  }
  return queues;
}

/** The address of the sender of a message, if it had one. */
export function senderOf({ entry }: SavedMessage): SocketAddress | undefined {
  return entry.from === undefined || entry.from.length === 0 ? undefined : decodeAddress(Buffer.from(entry.from));
}

/** Sends a saved message through `sender`, to `to` when that is not connected. False: the queue is full. */
export function resend(
  sender: Fd,
  message: SavedMessage,
  { session, to, hold }: { session: RestoreSession; to?: SocketAddress | undefined; hold?: (pid: number) => void },
): boolean {
  const { entry, data } = message;
  const control: ControlMessage[] = [];
  const rights = entry.scm.filter((s) => s.type === SCM_RIGHTS).flatMap((s) => s.rights);
  if (rights.length > 0) control.push(rightsMessage(rights.map((id) => session.file(id))));
  const flags = MSG_NOSIGNAL | MSG_DONTWAIT | (entry.urgent === true ? MSG_OOB : 0);
  const address = to === undefined ? {} : { to };
  if (entry.credentials !== undefined) {
    const credentials = credentialsMessage({ ...entry.credentials, pid: numberOf(entry.credentials.pid, { session, hold }) });
    try {
      return sendAll(sender, data, { control: [...control, credentials], flags, ...address });
    } catch (error) {
      if (!(error instanceof KernelError) || ![ERRNO.ESRCH, ERRNO.EPERM].includes(error.errno as never)) throw error;
      session.warn(
        `a queued message said that it came from process ${entry.credentials.pid}, which does not exist any more: it has lost its credentials`,
      );
    }
  }
  return sendAll(sender, data, { control, flags, ...address });
}

/** What we call the sender. Nobody may name a process that does not exist; one of which the tree knew no number is any that it does not know. */
function numberOf(pid: number, { session, hold }: { session: RestoreSession; hold: ((pid: number) => void) | undefined }): number {
  if (pid === 0) return process.pid;
  const before = outsideOf(pid, session);
  if (before !== undefined || hold === undefined) return before ?? pid;
  hold(pid);
  return outsideOf(pid, session) ?? pid;
}

type SendOptions = NonNullable<Parameters<typeof sendmsg>[2]>;

/** A stream may take less than everything at once; descriptors go with the first part. */
function sendAll(sender: Fd, data: Buffer, options: SendOptions): boolean {
  let sent = 0;
  let rest = options;
  do {
    try {
      sent += sendmsg(sender, data.subarray(sent), rest);
    } catch (error) {
      if (error instanceof KernelError && error.errno === ERRNO.EAGAIN) return false;
      throw error;
    }
    rest = { ...options, control: (options.control ?? []).filter((c) => c.type !== SCM_RIGHTS) };
  } while (sent < data.length);
  return true;
}

function credentialsMessage({ pid, uid, gid }: NonNullable<SkPacketEntry["credentials"]>): ControlMessage {
  const data = Buffer.alloc(12);
  [pid, uid, gid].forEach((n, i) => data.writeUInt32LE(n, i * 4));
  return { level: SOL_SOCKET, type: SCM_CREDENTIALS, data };
}

/** Closes descriptors of messages that are not saved. */
export function dropMessages(messages: readonly QueuedMessage[]): void {
  for (const { fds } of messages) for (const fd of fds) close(fd);
}
