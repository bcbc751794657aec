/**
 * Datagrams that wait at a UDP socket, put back by sending them again from the address they came from.
 *
 * A socket that may have any address (IP_TRANSPARENT) sends them; they arrive over the loopback device. What does not
 * arrive, because no such way leads there, is lost, as any datagram may be, and a warning says so.
 */
import { closeSync } from "node:fs";
import { AF_INET6, type SocketAddress } from "../../linux/addresses.js";
import { bytesToRead } from "../../linux/pipes.js";
import { SO } from "../../linux/socket-options.js";
import { SOCK_CLOEXEC, SOL_SOCKET, bind, getsockname, setsockoptInt, socket } from "../../linux/sockets.js";
import type { Fd, RestoreSession } from "../part.js";
import { replaced } from "./inet-address.js";
import { IPPROTO_IP, IPPROTO_IPV6 } from "./inet-options.js";
import type { InetSkEntry } from "./inet.schema.js";
import { liftLimits } from "./options.js";
import { type SavedMessage, resend, savedQueues, senderOf } from "./queue.js";

const IP_TRANSPARENT = 19;
const IPV6_TRANSPARENT = 75;

/** Fills the queue of `fd`, which is bound but not connected yet. */
export function refillUdp(fd: Fd, entry: InetSkEntry, session: RestoreSession): void {
  const queue = savedQueues(session).get(entry.id) ?? [];
  if (queue.length === 0) return;
  liftLimits(fd);
  const to = reachable(getsockname(fd));
  for (const message of queue) {
    if (!sendAgain(message, { entry, to, session }))
      session.warn(`a datagram that waited at UDP port ${entry.src_port} could not be put back and is lost`);
  }
  if (bytesToRead(fd) === 0 && queue.some((m) => m.data.length > 0))
    session.warn(`datagrams that waited at UDP port ${entry.src_port} did not arrive again`);
}

/** Where to send to for a socket that is bound to every address. */
function reachable(own: SocketAddress): SocketAddress {
  if (own.family === "inet" && own.address.every((b) => b === 0)) return { ...own, address: Buffer.from([127, 0, 0, 1]) };
  if (own.family === "inet6" && own.address.every((b) => b === 0)) return { ...own, address: Buffer.from([...new Uint8Array(15), 1]) };
  return own;
}

function sendAgain(
  message: SavedMessage,
  { entry, to, session }: { entry: InetSkEntry; to: SocketAddress; session: RestoreSession },
): boolean {
  const sent = senderOf(message);
  if (sent === undefined) return false;
  const isInet = sent.family === "inet" || sent.family === "inet6";
  const from = isInet ? { ...sent, address: replaced(sent.address, session.options.mapIp) } : sent;
  const is6 = entry.family === AF_INET6;
  const sender = socket({ family: entry.family, type: entry.type | SOCK_CLOEXEC, protocol: entry.proto });
  try {
    setsockoptInt(sender, is6 ? { level: IPPROTO_IPV6, name: IPV6_TRANSPARENT } : { level: IPPROTO_IP, name: IP_TRANSPARENT }, 1);
    setsockoptInt(sender, { level: SOL_SOCKET, name: SO.REUSEADDR }, 1);
    bind(sender, from);
    return resend(sender, message, { session, to });
  } catch (error) {
    session.warn((error as Error).message);
    return false;
  } finally {
    closeSync(sender);
  }
}
