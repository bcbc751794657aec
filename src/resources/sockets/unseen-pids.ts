/**
 * Numbers of processes that are dead, in the pid namespace of a tree that has one of its own: who made a connection, who sent a
 * message. System calls tell what we call them; what the tree calls them only the kernel's memory has.
 *
 * Read from   struct pid, found by a pidfd of ours, a socket, or a message
 */
import { closeSync } from "node:fs";
import type { KernelSockets } from "../../linux/kernel-sockets.js";
import { pidfdOpen } from "../../linux/process.js";
import type { DumpSession, Fd } from "../part.js";
import { kernelSockets } from "./unseen.js";

const POINTER_BYTES = 8;
/** MAX_PID_NS_LEVEL, linux/pid_namespace.h. */
const MOST_LEVELS = 32;

/** A pid namespace: how deep it lies, and its address. */
interface Place {
  readonly level: number;
  readonly namespace: bigint;
}

const places = new WeakMap<DumpSession, Place | undefined>();

/** Finds the namespace of the tree while that lives, for those who ask when it is dead. */
export function rememberTree(session: DumpSession): void {
  const kernel = session.tasks[0]?.traced.isInOurPidNamespace === false ? lookingGlass() : undefined;
  if (kernel !== undefined && !places.has(session)) places.set(session, placeOf(kernel, session));
}

/** What the tree calls the process that made the connection of a socket; 0: it does not know it, or that cannot be seen. */
export function insidePeer(fd: Fd, session: DumpSession): number {
  const kernel = lookingGlass();
  const socket = kernel?.find(fd);
  const process = socket === undefined ? undefined : pointer(kernel, socket, "sock", "sk_peer_pid");
  return process === undefined ? 0 : insideNumber(process, session);
}

/** What the tree calls the sender of a message that waits at a UNIX socket, which we call `pid`. */
export function insideSender(fd: Fd, pid: number, session: DumpSession): number {
  const kernel = lookingGlass();
  const socket = kernel?.has("unix_skb_parms") === true ? kernel.find(fd) : undefined;
  if (kernel === undefined || socket === undefined) return 0;
  const at = BigInt(kernel.at("sk_buff", "cb") + kernel.at("unix_skb_parms", "pid"));
  for (const buffer of kernel.queue(socket + BigInt(kernel.at("sock", "sk_receive_queue"))) ?? []) {
    const process = kernel.read(buffer + at, POINTER_BYTES)?.readBigUInt64LE(0) ?? 0n;
    const levels = Array.from({ length: process === 0n ? 0 : Math.min(MOST_LEVELS, levelOf(kernel, process) ?? 0) }, (_, level) => level);
    if (levels.some((level) => upid(kernel, process, level)?.number === pid)) return insideNumber(process, session);
  }
  return 0;
}

/** What the tree calls a process (address of struct pid). */
export function insideNumber(process: bigint, session: DumpSession): number {
  const kernel = lookingGlass();
  if (kernel === undefined || process === 0n) return 0;
  rememberTree(session);
  const place = places.get(session);
  const own = place === undefined ? undefined : upid(kernel, process, place.level);
  return own?.namespace === place?.namespace ? (own?.number ?? 0) : 0;
}

function lookingGlass(): KernelSockets | undefined {
  const kernel = kernelSockets();
  return kernel?.has("pid", "upid", "inode") === true ? kernel : undefined;
}

/** The namespace of the tree: the deepest of its first process, to which a pidfd leads (by way of its inode since 6.9). */
function placeOf(kernel: KernelSockets, { tasks }: DumpSession): Place | undefined {
  const root = tasks[0]?.traced;
  if (root === undefined) return undefined;
  const pidfd = pidfdOpen(root.pid);
  try {
    const file = kernel.fileOf(pidfd) ?? 0n;
    const inode = pointer(kernel, file, "file", "f_inode") ?? 0n;
    for (const process of [pointer(kernel, inode, "inode", "i_private"), pointer(kernel, file, "file", "private_data")]) {
      const level = process === undefined ? undefined : levelOf(kernel, process);
      const own = process === undefined || level === undefined ? undefined : upid(kernel, process, level);
      if (own?.number === root.nsPid && level !== undefined) return { level, namespace: own.namespace };
    }
    return undefined;
  } finally {
    closeSync(pidfd);
  }
}

function upid(kernel: KernelSockets, process: bigint, level: number): { number: number; namespace: bigint } | undefined {
  if (level > (levelOf(kernel, process) ?? -1)) return undefined;
  const bytes = kernel.read(
    process + BigInt(kernel.at("pid", "numbers") + level * kernel.sizeOf("upid")),
    Math.max(POINTER_BYTES, kernel.sizeOf("upid")),
  );
  if (bytes === undefined) return undefined;
  return { number: bytes.readInt32LE(kernel.at("upid", "nr")), namespace: bytes.readBigUInt64LE(kernel.at("upid", "ns")) };
}

const levelOf = (kernel: KernelSockets, process: bigint) => kernel.read(process + BigInt(kernel.at("pid", "level")), 4)?.readUInt32LE(0);

const pointer = (kernel: KernelSockets | undefined, address: bigint, struct: string, member: string) =>
  kernel?.read(address + BigInt(kernel.at(struct, member)), POINTER_BYTES)?.readBigUInt64LE(0);
