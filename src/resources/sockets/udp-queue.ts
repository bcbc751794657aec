/**
 * Datagrams that wait at a UDP socket, put back by sending them again from the address they came from.
 *
 * A socket that may have any address (IP_TRANSPARENT) sends them; they arrive over the loopback device, or, where it is known and matters,
 * at the device at which they came in (udp-arrival.ts). What does not arrive, because no such way leads there, is lost, as any datagram
 * may be, and a warning says so.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { AF_INET6, type SocketAddress } from "../../linux/addresses.js";
import { bytesToRead } from "../../linux/pipes.js";
import { ERRNO } from "../../linux/errno.js";
import { sendDatagram } from "../../linux/raw-packet.js";
import { SO, bindToDevice } from "../../linux/socket-options.js";
import { SOCK_CLOEXEC, SOL_SOCKET, bind, connect, disconnect, getsockname, setsockoptInt, socket } from "../../linux/sockets.js";
import type { Fd, RestoreSession } from "../part.js";
import { MAPPED, addressOf, placedAddress, unmapped } from "./inet-address.js";
import { IPPROTO_IP, IPPROTO_IPV6 } from "./inet-options.js";
import type { InetSkEntry } from "./inet.schema.js";
import { bindOwn, plain } from "./inet-socket.js";
import { joinAgain } from "./memberships.js";
import { liftLimits } from "./options.js";
import { type SavedMessage, resend, savedQueues, senderOf } from "./queue.js";
import { enterAgain, hasHeardMany, isForMany, noteArrivals, sentTo } from "./udp-arrival.js";

const IP_TRANSPARENT = 19;
const IPV6_TRANSPARENT = 75;

/** Fills the queue of `fd`, which is bound but not connected yet. */
export function refillUdp(fd: Fd, entry: InetSkEntry, session: RestoreSession): void {
  const queue = savedQueues(session).get(entry.id) ?? [];
  if (queue.length === 0) return;
  const lost = (why: string) => session.warn(`a datagram that waited at UDP port ${entry.src_port} is lost: ${why}`);
  const own = getsockname(fd);
  const device = entry.opts.so_bound_dev;
  liftLimits(fd);
  // What does not come in at its device comes over the loopback device.
  if (device !== undefined) bindToDevice(fd, "");
  for (const message of queue) {
    const from = sourceOf(message, session);
    if (from === undefined || !putBack(message, { fd, entry, from, to: aim(fd, { from, own }), session })) lost("it could not be put back");
  }
  disconnect(fd);
  if (device !== undefined) bindToDevice(fd, device);
  if (bytesToRead(fd) === 0 && queue.some((m) => m.data.length > 0))
    session.warn(`datagrams that waited at UDP port ${entry.src_port} did not arrive again`);
}

/**
 * Connects a socket to the sender of its next datagram: no other at the same port then gets it. Returns where to send it;
 * without a way to the sender the socket hears all that is sent to its port.
 */
function aim(fd: Fd, { from, own }: { from: SocketAddress; own: SocketAddress }): SocketAddress {
  try {
    disconnect(fd);
    connect(fd, from);
    return getsockname(fd);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return reachable(own, from);
  }
}

/** One datagram: at the device where it came in, or over the loopback device. */
function putBack(
  message: SavedMessage,
  way: { fd: Fd; entry: InetSkEntry; from: SocketAddress; to: SocketAddress; session: RestoreSession },
): boolean {
  const { fd, entry, from, to, session } = way;
  if (to.family !== "inet" && to.family !== "inet6") return false;
  const address = sentTo(message, session);
  if (address === undefined) return sendAgain(message, { entry, from, to, session });
  noteArrivals(fd, entry.family, true);
  try {
    if (enterAgain(message, { fd, from, port: to.port, entry, session })) return true;
    const isOfUse = !isForMany(address) && address.length === unmapped(to.address).length;
    const written = address.length === to.address.length ? address : Buffer.concat([MAPPED, address]);
    return sendAgain(message, { entry, from, to: isOfUse ? { ...to, address: written } : to, session });
  } finally {
    noteArrivals(fd, entry.family, false);
  }
}

/** Whether a socket has the address of a group or of a whole network, or something waits at it that was sent to one. */
export function isApart(entry: InetSkEntry, session: RestoreSession): boolean {
  const own = addressOf(entry, "src");
  const isOfMany = (own?.family === "inet" || own?.family === "inet6") && isForMany(own.address);
  return isOfMany || hasHeardMany(entry, session);
}

/**
 * A socket with the address of a group, and with what waited there. What is sent to a group is heard by others as well, so it is filled
 * while it has a port of its own that nobody knows, and given its address afterwards: the kernel lets go of a port that was not asked
 * for by name.
 */
export function refillApart(entry: InetSkEntry, session: RestoreSession): Fd {
  const fd = plain(entry);
  joinAgain(fd, entry.memberships);
  const queue = savedQueues(session).get(entry.id) ?? [];
  const device = entry.opts.so_bound_dev;
  try {
    if (queue.length > 0) {
      liftLimits(fd);
      // All of it comes over the loopback device.
      if (device !== undefined) bindToDevice(fd, "");
      bind(fd, anyAddress(entry.family));
      const own = getsockname(fd);
      for (const message of queue) {
        const from = sourceOf(message, session);
        if (from === undefined || !putBack(message, { fd, entry, from, to: reachable(own, from), session }))
          session.warn(`a datagram that waited at UDP port ${entry.src_port} is lost: it could not be put back`);
      }
      disconnect(fd);
      if (device !== undefined) bindToDevice(fd, device);
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  bindOwn(fd, entry);
  return fd;
}

function anyAddress(family: number): SocketAddress {
  if (family === AF_INET6) return { family: "inet6", address: Buffer.alloc(16), port: 0, flowInfo: 0, scopeId: 0 };
  return { family: "inet", address: Buffer.alloc(4), port: 0 };
}

function sourceOf(message: SavedMessage, session: RestoreSession): SocketAddress | undefined {
  const sent = senderOf(message);
  return sent === undefined ? undefined : placedAddress(sent, session);
}

/** Where to send to for a socket that is bound to every address. */
function reachable(own: SocketAddress, from: SocketAddress): SocketAddress {
  if (own.family === "inet6" && from.family === "inet6" && unmapped(from.address).length === 4)
    return { ...own, address: Buffer.from("00000000000000000000ffff7f000001", "hex") };
  if (own.family === "inet" && own.address.every((b) => b === 0)) return { ...own, address: Buffer.from([127, 0, 0, 1]) };
  if (own.family === "inet6" && own.address.every((b) => b === 0)) return { ...own, address: Buffer.from([...new Uint8Array(15), 1]) };
  return own;
}

function sendAgain(
  message: SavedMessage,
  { entry, from, to, session }: { entry: InetSkEntry; from: SocketAddress; to: SocketAddress; session: RestoreSession },
): boolean {
  const is6 = entry.family === AF_INET6;
  const sender = socket({ family: entry.family, type: entry.type | SOCK_CLOEXEC, protocol: entry.proto });
  try {
    setsockoptInt(sender, is6 ? { level: IPPROTO_IPV6, name: IPV6_TRANSPARENT } : { level: IPPROTO_IP, name: IP_TRANSPARENT }, 1);
    setsockoptInt(sender, { level: SOL_SOCKET, name: SO.REUSEADDR }, 1);
    bind(sender, from);
    return resend(sender, message, { session, to });
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (error.errno === ERRNO.EADDRINUSE && sendForged(message, { entry, from, to })) return true;
    session.warn(error.message);
    return false;
  } finally {
    closeSync(sender);
  }
}

/** Somebody has the address of the sender for itself, the sender most likely: then the packet is made by hand. */
function sendForged(message: SavedMessage, { entry, from, to }: { entry: InetSkEntry; from: SocketAddress; to: SocketAddress }): boolean {
  if ((from.family !== "inet" && from.family !== "inet6") || (to.family !== "inet" && to.family !== "inet6")) return false;
  const ends = { from: { address: unmapped(from.address), port: from.port }, to: { address: unmapped(to.address), port: to.port } };
  if (ends.from.address.length !== ends.to.address.length) return false;
  sendDatagram({ ...ends, protocol: entry.proto }, message.data);
  return true;
}
