/**
 * Connections to a page server, and from those who send to one: dialled or accepted, and secured where it is asked for.
 */
import type { Patience } from "../../linux/streams.js";
import { close } from "../../linux/files.js";
import { type Listening, acceptFrom, dial, nameOf, stopListening } from "./address.js";
import { PageConnection } from "./connection.js";
import type { PeerAddress } from "./options.js";
import { secured } from "./tls.js";
import type { PagesOf } from "./wire.js";

/** Connects to a page server and agrees with it on the form of messages; `of`: something that is asked about for that. */
export function connectTo(peer: PeerAddress, of: PagesOf): PageConnection {
  const fd = dial(peer);
  let own = fd;
  try {
    own = peer.tls === undefined ? fd : secured(fd, { role: "client", tls: peer.tls, name: peer.address });
    const connection = new PageConnection(own, nameOf(peer));
    connection.greet(of);
    return connection;
  } catch (error) {
    close(own);
    throw error;
  }
}

/** Takes the one connection that a server is for: the next that comes, or the socket that was given. */
export function takeConnection(from: Listening | number, peer: PeerAddress, patience: Patience = { timeoutMs: -1 }): PageConnection {
  const fd = typeof from === "number" ? from : acceptFrom(from, patience);
  if (typeof from !== "number") stopListening(from);
  const own = peer.tls === undefined ? fd : secured(fd, { role: "server", tls: peer.tls, name: undefined });
  return new PageConnection(own, typeof from === "number" ? nameOf(peer) : "the other end");
}
