/**
 * /proc/PID/net/raw, raw6, icmp, icmp6, proc_pid_net(5): raw and ping sockets of a network namespace.
 */
import { decimal, hex, procTextError } from "./text.js";

/** One socket. */
export interface NetSocket {
  readonly inode: number;
  readonly state: number;
  /** The address it is connected to, in network order; all zero: to none. */
  readonly peer: Buffer;
  readonly peerPort: number;
  /** Memory of packets that wait to be read. */
  readonly waitingBytes: number;
}

/** Each word of an address is printed as a number, which the processor keeps the other way round. */
function address(text: string): Buffer {
  return Buffer.from(text, "hex").swap32();
}

/** A line as in ` 156: 0100007F:0001 0200007F:0000 01 00000000:00000300 00:00000000 00000000 0 0 349587 2 0000… 0`. */
function parseLine(line: string, path: string): NetSocket {
  const fields = line.trim().split(/\s+/);
  const [, , peer = "", state = "", queues = "", , , , , inode = ""] = fields;
  const [peerAddress = "", peerPort = ""] = peer.split(":");
  if (!/^([0-9A-F]{8}){1,4}$/.test(peerAddress) || inode === "")
    throw procTextError(path, `it has the line "${line.slice(0, 120).trim()}"`);
  return {
    inode: decimal(inode, path),
    state: hex(state, path),
    peer: address(peerAddress),
    peerPort: hex(peerPort, path),
    waitingBytes: hex(queues.split(":")[1] ?? "", path),
  };
}

/** All sockets of the file, by inode. */
export function parseNetSockets(bytes: Buffer, path: string): Map<number, NetSocket> {
  const [, ...lines] = bytes
    .toString("latin1")
    .split("\n")
    .filter((line) => line.trim() !== "");
  return new Map(lines.map((line) => parseLine(line, path)).map((s) => [s.inode, s]));
}
