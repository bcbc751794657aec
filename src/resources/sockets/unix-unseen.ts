/**
 * What clients have sent over UNIX connections that nobody has accepted, of a tree that runs on: looked at where it lies.
 *
 * A connection that waits is a buffer in the queue of the listening socket, which leads to the socket that accept(2) would give a
 * descriptor; in its queue is what was sent. No system call leads there and leaves it, so it is read from the kernel's memory.
 *
 * Descriptors among what was sent are there as addresses of open files: they are carried when a process of the tree has one of the same
 * open file; there is no other way to them.
 *
 * Read from   struct unix_sock, unix_skb_parms, scm_fp_list, cred (linux/kernel-sockets.ts)
 * Refused     where that memory may not be read; open files that nobody has
 */
import { closeSync } from "node:fs";
import type { KernelBuffer, KernelSockets } from "../../linux/kernel-sockets.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import type { UnixSocketInfo } from "../../linux/sock-diag.js";
import { SCM_MAX_FD, SOCK_STREAM } from "../../linux/sockets.js";
import { dumpInFlight } from "../files/table.js";
import type { DumpSession, Fd } from "../part.js";
import { kernelSockets } from "./unseen.js";
import type { FloeUnixWaiting } from "./unix-backlog.schema.js";
import { savedPid } from "./unix-donors.js";
import { insideNumber } from "./unseen-pids.js";

const STRUCTS = ["unix_sock", "unix_address", "unix_skb_parms", "scm_fp_list", "pid", "upid", "cred", "group_info"];
const POINTER_BYTES = 8;
/** NGROUPS_MAX, uapi/linux/limits.h. */
const NGROUPS_MAX = 65536;
/** Bytes of a name in struct sockaddr_un, its family included. */
const SOCKADDR_UN_BYTES = 110;
const FAMILY_BYTES = 2;

export type Sent = FloeUnixWaiting["sent"][number];

/** What was seen. */
export interface Waits {
  /** The connections that wait at a listening socket, in their order. */
  readonly waiting: FloeUnixWaiting[];
  /** Open files that were sent, by their addresses: their ids are to be put into the messages. */
  readonly files: ReadonlyMap<Sent, readonly bigint[]>;
}

/** Undefined: they cannot be looked at. */
export function lookAtWaiting(
  listener: Fd,
  info: UnixSocketInfo,
  { id, session }: { id: number; session: DumpSession },
): Waits | undefined {
  const kernel = kernelSockets();
  const address = kernel?.has(...STRUCTS) === true ? kernel.find(listener) : undefined;
  if (kernel === undefined || address === undefined) return undefined;
  const look = new Look(kernel, session);
  const queue = kernel.queue(address + BigInt(kernel.at("sock", "sk_receive_queue")));
  if (queue?.length !== info.pending.length) return undefined;
  const waiting = queue.map((buffer, i) => look.waiting(buffer, { id, client: info.pending[i] ?? 0, isStream: info.type === SOCK_STREAM }));
  return waiting.every((one) => one !== undefined) ? { waiting, files: look.files } : undefined;
}

/** What waits at a datagram or seqpacket socket; undefined: it cannot be looked at. */
export function lookAtQueue(fd: Fd, session: DumpSession): (Waits & { readonly sent: readonly Sent[]; readonly from: Names }) | undefined {
  const kernel = kernelSockets();
  const address = kernel?.has(...STRUCTS) === true ? kernel.find(fd) : undefined;
  if (kernel === undefined || address === undefined) return undefined;
  const look = new Look(kernel, session);
  const from = new Map<Sent, Buffer>();
  const sent: Sent[] = [];
  for (const buffer of kernel.queue(address + BigInt(kernel.at("sock", "sk_receive_queue"))) ?? []) {
    const one = look.sent(buffer);
    if (one === undefined) return undefined;
    sent.push(one.sent);
    if (one.from.length > 0) from.set(one.sent, one.from);
  }
  return { waiting: [], files: look.files, sent, from };
}

/** Names of senders, as in sun_path. */
export type Names = ReadonlyMap<Sent, Buffer>;

/** Puts the ids of open files that were sent into their messages. False: no process of the tree has one of them. */
export function findRights({ files }: Waits, session: DumpSession): boolean {
  const wanted = new Set([...files.values()].flat());
  const ids = new Map<bigint, number>();
  for (const task of session.tasks) {
    if (ids.size === wanted.size) break;
    const pidfd = pidfdOpen(task.traced.pid);
    try {
      for (const fd of readFdNumbers(task.traced.pid)) {
        const local = pidfdGetfd(pidfd, fd);
        const file = kernelSockets()?.fileOf(local);
        const isWanted = file !== undefined && wanted.has(file) && !ids.has(file);
        const id = isWanted ? dumpInFlight(local, { task, session }) : closeSync(local);
        if (isWanted && typeof id === "number") ids.set(file, id);
      }
    } finally {
      closeSync(pidfd);
    }
  }
  for (const [sent, addresses] of files) sent.rights = addresses.flatMap((address) => ids.get(address) ?? []);
  return ids.size === wanted.size;
}

class Look {
  readonly files = new Map<Sent, readonly bigint[]>();
  readonly #kernel: KernelSockets;
  readonly #session: DumpSession;
  /** How deep our pid namespace lies: a process has a number in each down to its own. */
  readonly #level: number | undefined;

  constructor(kernel: KernelSockets, session: DumpSession) {
    this.#kernel = kernel;
    this.#session = session;
    this.#level = kernel.memory
      .read({ start: "task", pointers: [kernel.at("task_struct", "thread_pid")], offset: kernel.at("pid", "level") }, 4)
      ?.readUInt32LE(0);
  }

  #pointer(address: bigint, struct: string, member: string): bigint | undefined {
    return this.#kernel.read(address + BigInt(this.#kernel.at(struct, member)), POINTER_BYTES)?.readBigUInt64LE(0);
  }

  #word(address: bigint, struct: string, member: string): number | undefined {
    return this.#kernel.read(address + BigInt(this.#kernel.at(struct, member)), 4)?.readUInt32LE(0);
  }

  /** One connection, by the buffer that stands for it. */
  waiting(buffer: bigint, { id, client, isStream }: { id: number; client: number; isStream: boolean }): FloeUnixWaiting | undefined {
    const socket = this.#pointer(buffer, "sk_buff", "sk");
    const urgent = socket === undefined || socket === 0n ? undefined : this.#pointer(socket, "unix_sock", "oob_skb");
    if (socket === undefined || urgent === undefined) return undefined;
    const buffers = this.#kernel.queue(socket + BigInt(this.#kernel.at("sock", "sk_receive_queue")));
    const sent = buffers?.map((one) => this.#sent(one, one === urgent));
    if (sent === undefined || !sent.every((one) => one !== undefined)) return undefined;
    const found: FloeUnixWaiting = { listener: id, client, sent: isStream ? this.#glued(sent) : sent };
    const connector = this.#connector(socket);
    if (connector !== undefined) found.connector = connector;
    if (client !== 0) return found;
    const name = this.#nameOfPeer(socket);
    if (name === undefined) return undefined;
    return name.length === 0 ? found : { ...found, name };
  }

  /** A datagram, and the name of its sender. */
  sent(address: bigint): { sent: Sent; from: Buffer } | undefined {
    const sent = this.#sent(address, false);
    const sender = this.#pointer(address, "sk_buff", "sk");
    const from = sender === undefined || sender === 0n ? undefined : this.#nameOf(sender);
    return sent === undefined || from === undefined ? undefined : { sent, from };
  }

  #sent(address: bigint, isUrgent: boolean): Sent | undefined {
    const buffer = this.#kernel.buffer(address);
    if (buffer === undefined) return undefined;
    const data = Buffer.concat([buffer.memory.subarray(buffer.data), buffer.pages]);
    const control = (member: string) => buffer.control.readBigUInt64LE(this.#kernel.at("unix_skb_parms", member));
    const files = this.#files(control("fp"));
    if (data.length !== buffer.length || files === undefined) return undefined;
    const sent: Sent = { data, rights: [], ...(isUrgent ? { urgent: true } : {}), ...this.#credentials(buffer, control("pid")) };
    if (files.length > 0) this.files.set(sent, files);
    return sent;
  }

  /** The open files of a list (struct scm_fp_list). */
  #files(list: bigint): bigint[] | undefined {
    if (list === 0n) return [];
    const count = this.#kernel.read(list + BigInt(this.#kernel.at("scm_fp_list", "count")), 2)?.readUInt16LE(0);
    if (count === undefined || count > SCM_MAX_FD) return undefined;
    const pointers = this.#kernel.read(list + BigInt(this.#kernel.at("scm_fp_list", "fp")), count * POINTER_BYTES);
    return pointers === undefined ? undefined : Array.from({ length: count }, (_, i) => pointers.readBigUInt64LE(i * POINTER_BYTES));
  }

  /** Who sent it, where somebody asked for that. */
  #credentials({ control }: KernelBuffer, process: bigint): Pick<Sent, "credentials"> {
    const pid = process === 0n ? 0 : (this.#number(process) ?? 0);
    if (pid === 0) return {};
    const id = (member: string) => control.readUInt32LE(this.#kernel.at("unix_skb_parms", member));
    return { credentials: { pid: this.#saved(pid, process), uid: id("uid"), gid: id("gid") } };
  }

  #saved(pid: number, process: bigint): number {
    return savedPid(pid, this.#session, () => insideNumber(process, this.#session));
  }

  /** The number that we see of a process (struct pid); 0: none. */
  #number(process: bigint): number | undefined {
    const level = this.#level;
    const its = this.#word(process, "pid", "level");
    if (level === undefined || its === undefined) return undefined;
    if (its < level) return 0;
    const number = this.#kernel.at("pid", "numbers") + level * this.#kernel.sizeOf("upid") + this.#kernel.at("upid", "nr");
    return this.#kernel.read(process + BigInt(number), 4)?.readUInt32LE(0);
  }

  /** Who connected: what SO_PEERCRED and SO_PEERGROUPS will say. */
  #connector(socket: bigint): FloeUnixWaiting["connector"] {
    const process = this.#pointer(socket, "sock", "sk_peer_pid");
    const cred = this.#pointer(socket, "sock", "sk_peer_cred");
    if (process === undefined || cred === undefined || cred === 0n) return undefined;
    const groups = this.#pointer(cred, "cred", "group_info");
    const count = groups === undefined || groups === 0n ? 0 : (this.#word(groups, "group_info", "ngroups") ?? 0);
    const list = this.#kernel.read((groups ?? 0n) + BigInt(this.#kernel.at("group_info", "gid")), Math.min(count, NGROUPS_MAX) * 4);
    return {
      pid: this.#saved(process === 0n ? 0 : (this.#number(process) ?? 0), process),
      uid: this.#word(cred, "cred", "euid") ?? 0,
      gid: this.#word(cred, "cred", "egid") ?? 0,
      groups: count === 0 || list === undefined ? [] : Array.from({ length: list.length / 4 }, (_, i) => list.readUInt32LE(i * 4)),
    };
  }

  /** The name of the client, as in sun_path; empty: it has none. */
  #nameOfPeer(socket: bigint): Buffer | undefined {
    const peer = this.#pointer(socket, "unix_sock", "peer");
    return peer === undefined || peer === 0n ? undefined : this.#nameOf(peer);
  }

  #nameOf(socket: bigint): Buffer | undefined {
    const address = this.#pointer(socket, "unix_sock", "addr");
    if (address === undefined || address === 0n) return address === undefined ? undefined : Buffer.alloc(0);
    const length = this.#word(address, "unix_address", "len");
    if (length === undefined || length < FAMILY_BYTES || length > SOCKADDR_UN_BYTES + 1) return undefined;
    return this.#kernel.read(address + BigInt(this.#kernel.at("unix_address", "name") + FAMILY_BYTES), length - FAMILY_BYTES);
  }

  /** Of a stream only what different writers have sent is kept apart, and what came with descriptors, and the urgent byte. */
  #glued(sent: readonly Sent[]): Sent[] {
    const pieces: Sent[] = [];
    const writer = ({ credentials: c }: Sent) => (c === undefined ? "" : `${c.pid},${c.uid},${c.gid}`);
    const isPlain = (one: Sent) => one.urgent !== true && !this.files.has(one);
    for (const one of sent) {
      const last = pieces.at(-1);
      const isAlike = last !== undefined && writer(last) === writer(one) && isPlain(last) && isPlain(one);
      if (isAlike) last.data = Buffer.concat([last.data, one.data]);
      else pieces.push(one);
    }
    return pieces;
  }
}
