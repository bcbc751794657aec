/**
 * IPv4 and IPv6 sockets as such: which are carried, and one with its address.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { AF_INET, AF_INET6 } from "../../linux/addresses.js";
import { SOCKET_STATE } from "../../linux/sock-diag.js";
import { ERRNO } from "../../linux/errno.js";
import { setStatusFlags } from "../../linux/fcntl.js";
import { SO, bindToDevice } from "../../linux/socket-options.js";
import { SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, bind, setsockoptInt, shutdown } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import { addressOf } from "./inet-address.js";
import { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, type InetKind, setEarlyOptions, setInetOptions } from "./inet-options.js";
import type { InetSkEntry } from "./inet.schema.js";
import { setOptions } from "./options.js";
import { setUnseen } from "./unseen-options.js";
import { isPing, isRaw, socketOf } from "./raw.js";

export const IPPROTO_MPTCP = 262;

/** TCP, and Multipath TCP as far as it has no connection: what servers in Go have since 1.24. What such a server accepts mostly is plain TCP. */
export const isTcp = ({ type, proto }: Pick<InetKind, "type" | "proto">) =>
  type === SOCK_STREAM && (proto === IPPROTO_TCP || proto === IPPROTO_MPTCP);

/** UDP and UDP-Lite. */
export function isUdp({ type, proto }: Pick<InetKind, "type" | "proto">): boolean {
  return type === SOCK_DGRAM && (proto === IPPROTO_UDP || proto === IPPROTO_UDPLITE);
}

export function isCarried(kind: InetKind): boolean {
  if (kind.family !== AF_INET && kind.family !== AF_INET6) return false;
  return isTcp(kind) || isUdp(kind) || isRaw(kind) || isPing(kind);
}

/** Whether a socket without a connection of TCP sends to one address only. */
export function hasPeer(entry: InetSkEntry): boolean {
  return isUdp(entry) ? entry.dst_port !== 0 : entry.state === SOCKET_STATE.ESTABLISHED;
}

/** `shutdown`: a socket that does not receive, does not send, neither. */
export const READ = 1;
export const WRITE = 2;
export const BOTH = 3;

/** Whether a TCP socket had a connection which is over. */
export function isOver(entry: InetSkEntry): boolean {
  return entry.type === SOCK_STREAM && entry.state === SOCKET_STATE.CLOSE && entry.shutdown === BOTH;
}

/** A socket with what has to be set first. */
export function plain(entry: InetSkEntry): Fd {
  const fd = socketOf(entry);
  try {
    // The device and the mark decide about addresses and routes.
    if (entry.opts.so_bound_dev !== undefined) bindToDevice(fd, entry.opts.so_bound_dev);
    if (entry.opts.so_mark !== undefined) setsockoptInt(fd, { level: SOL_SOCKET, name: SO.MARK }, entry.opts.so_mark | 0);
    setEarlyOptions(fd, entry);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A socket with its own address. */
export function bound(entry: InetSkEntry): Fd {
  const fd = plain(entry);
  bindOwn(fd, entry);
  return fd;
}

/** Gives a socket its own address; closes it if that cannot be. */
export function bindOwn(fd: Fd, entry: InetSkEntry): void {
  try {
    // A port that the dumped process has just left is free for those who say that they share it.
    setsockoptInt(fd, { level: SOL_SOCKET, name: SO.REUSEADDR }, 1);
    if (entry.opts.so_reuseport === true) setsockoptInt(fd, { level: SOL_SOCKET, name: SO.REUSEPORT }, 1);
    const own = addressOf(entry, "src");
    if (own !== undefined && entry.src_port !== 0) bind(fd, own);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Everything that comes when its addresses and its queue are there. */
export function finish(fd: Fd, entry: InetSkEntry): void {
  setInetOptions(fd, entry);
  setOptions(fd, entry.opts);
  setUnseen(fd, entry);
  // Of a connection the state says all.
  const how = entry.type === SOCK_STREAM ? 0 : (entry.shutdown ?? 0);
  if ((how & READ) !== 0) shutDown(fd, READ);
  if ((how & WRITE) !== 0) shutDown(fd, WRITE);
  setStatusFlags(fd, entry.flags);
}

/** shutdown(2) of a socket without connection does what it should, and reports an error all the same. */
export function shutDown(fd: Fd, how: number): void {
  try {
    shutdown(fd, how - 1);
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ERRNO.ENOTCONN) throw error;
  }
}
