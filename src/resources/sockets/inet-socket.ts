/**
 * IPv4 and IPv6 sockets as such: which are carried, and one with its address.
 */
import { closeSync } from "node:fs";
import { AF_INET, AF_INET6 } from "../../linux/addresses.js";
import { SOCKET_STATE } from "../../linux/sock-diag.js";
import { SO, bindToDevice } from "../../linux/socket-options.js";
import { SOCK_CLOEXEC, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, bind, getsockoptInt, setsockoptInt, socket } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import { addressOf } from "./inet-address.js";
import { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, type InetKind, setEarlyOptions } from "./inet-options.js";
import type { InetSkEntry } from "./inet.schema.js";

const option = (fd: Fd, name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });

export function kindOf(fd: Fd): InetKind {
  return { family: option(fd, SO.DOMAIN), type: option(fd, SO.TYPE), proto: option(fd, SO.PROTOCOL) };
}

export function isCarried({ family, type, proto }: InetKind): boolean {
  if (family !== AF_INET && family !== AF_INET6) return false;
  return (type === SOCK_STREAM && proto === IPPROTO_TCP) || (type === SOCK_DGRAM && (proto === IPPROTO_UDP || proto === IPPROTO_UDPLITE));
}

/** `shutdown` of a socket that neither sends nor receives any more. */
export const BOTH = 3;

/** Whether a TCP socket had a connection which is over. */
export function isOver(entry: InetSkEntry): boolean {
  return entry.type === SOCK_STREAM && entry.state === SOCKET_STATE.CLOSE && entry.shutdown === BOTH;
}

/** A socket with what has to be set first. */
export function plain(entry: InetSkEntry): Fd {
  const fd = socket({ family: entry.family, type: entry.type | SOCK_CLOEXEC, protocol: entry.proto });
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
  try {
    // A port that the dumped process has just left is free for those who say that they share it.
    setsockoptInt(fd, { level: SOL_SOCKET, name: SO.REUSEADDR }, 1);
    if (entry.opts.so_reuseport === true) setsockoptInt(fd, { level: SOL_SOCKET, name: SO.REUSEPORT }, 1);
    const own = addressOf(entry, "src");
    if (own !== undefined && entry.src_port !== 0) bind(fd, own);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
