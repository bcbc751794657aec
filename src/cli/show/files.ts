/**
 * Open files as people know them: a kind and a name.
 */
import type { DirectorySource } from "../../images/source.js";
import { type FileEntry, fdTypes } from "../../resources/files/table.schema.js";
import { memfdInodeEntry } from "../../resources/memory/memfd.schema.js";
import { ttyInfoEntry } from "../../resources/ttys/tty.schema.js";
import { textOf } from "../../linux/text.js";

export interface ShownFile {
  readonly kind: string;
  readonly name: string;
  readonly offsetBytes?: number;
}

export interface OpenFile extends ShownFile {
  readonly fd: number;
  /** The same id means the same open file description. */
  readonly id: number;
  readonly closeOnExec: boolean;
}

const KINDS: Readonly<Record<string, string>> = {
  REG: "file",
  PIPE: "pipe",
  FIFO: "fifo",
  INETSK: "socket",
  UNIXSK: "unix socket",
  EVENTFD: "eventfd",
  EVENTPOLL: "epoll",
  INOTIFY: "inotify",
  SIGNALFD: "signalfd",
  PACKETSK: "packet socket",
  TTY: "terminal",
  FANOTIFY: "fanotify",
  NETLINKSK: "netlink socket",
  NS: "namespace",
  TUNF: "tun",
  EXT: "external",
  TIMERFD: "timerfd",
  MEMFD: "memfd",
  BPFMAP: "bpf map",
  PIDFD: "pidfd",
};

const kindNames: ReadonlyMap<number, string> = new Map(
  Object.entries(fdTypes.values).map(([word, number]) => [number, KINDS[word] ?? word]),
);

/** Kind and name of a file of files.img. */
export function describeFile(file: FileEntry, source: DirectorySource): ShownFile {
  const kind = kindNames.get(file.type) ?? `type ${file.type}`;
  const { reg, memfd } = file;
  if (reg !== undefined) return { kind, name: reg.name, offsetBytes: Number(reg.pos) };
  if (memfd !== undefined) return { kind, name: memfdName(source, memfd.inode_id), offsetBytes: Number(memfd.pos) };
  return { kind, name: nameOf(file, source) };
}

function nameOf(file: FileEntry, source: DirectorySource): string {
  const { pipe, fifo, isk, usk, tty, nsf, nlsk, psk, tfd, pidfd, efd, sgfd } = file;
  if (pipe !== undefined) return `pipe ${pipe.pipe_id}, ${(pipe.flags & 3) === 0 ? "read" : "write"} end`;
  if (fifo !== undefined) return `fifo ${fifo.pipe_id}`;
  if (isk !== undefined)
    return `${PROTOCOLS[isk.proto] ?? `protocol ${isk.proto}`} ${endpoint(isk, "src")}${isk.dst_port === 0 ? "" : ` to ${endpoint(isk, "dst")}`}`;
  if (usk !== undefined) return unixName(usk);
  if (tty !== undefined) return ttyName(source, tty.tty_info_id);
  if (nsf !== undefined) return `namespace ${nsf.ns_id}`;
  if (nlsk !== undefined) return `protocol ${nlsk.protocol}`;
  if (psk !== undefined) return `protocol ${psk.protocol}`;
  if (tfd !== undefined) return `clock ${tfd.clockid}`;
  if (pidfd !== undefined) return `process ${pidfd.nspid}`;
  if (efd !== undefined) return `counter ${efd.counter}`;
  if (sgfd !== undefined) return `signals 0x${sgfd.sigmask.toString(16)}`;
  return "";
}

/** Numbers of linux/in.h. */
const PROTOCOLS: Readonly<Record<number, string>> = { 0: "IP", 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 136: "UDP-Lite" };
const AF_INET6 = 10;

type Inet = NonNullable<FileEntry["isk"]>;

function endpoint(socket: Inet, side: "src" | "dst"): string {
  const words = side === "src" ? socket.src_addr : socket.dst_addr;
  const bytes = Buffer.alloc(4 * words.length);
  // Addresses lie in the words as they lie in memory.
  words.forEach((word, i) => bytes.writeUInt32LE(word, 4 * i));
  const port = side === "src" ? socket.src_port : socket.dst_port;
  if (socket.family !== AF_INET6) return `${[...bytes.subarray(0, 4)].join(".")}:${port}`;
  const groups = Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  return `[${groups
    .join(":")
    .replace(/\b0(?::0)+\b/, "")
    .replace(/^$/, ":")}]:${port}`;
}

function unixName({ name, ino, peer }: NonNullable<FileEntry["usk"]>): string {
  const text = textOf(Buffer.from(name)).replace(/^\0/, "@").replace(/\0+$/, "");
  const peerText = peer === 0 ? "" : `, peer ${peer}`;
  return `${text === "" ? `inode ${ino}` : text}${peerText}`;
}

function ttyName(source: DirectorySource, id: number): string {
  const info = source.records("TTY_INFO", [], ttyInfoEntry).find(({ value }) => value.id === id)?.value;
  return info?.pty === undefined ? `terminal ${id}` : `/dev/pts/${info.pty.index}`;
}

function memfdName(source: DirectorySource, inode: number): string {
  const found = source.records("MEMFD_INODE", [], memfdInodeEntry).find(({ value }) => Number(value.inode_id) === inode);
  return found?.value.name ?? `inode ${inode}`;
}
