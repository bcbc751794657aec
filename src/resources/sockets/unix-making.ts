/**
 * One UNIX socket on its way from images to a descriptor.
 */
import { SOCKET_STATE } from "../../linux/sock-diag.js";
import { SOCK_DGRAM } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import type { Waiting } from "./unix-backlog.js";
import type { SavedMessage } from "./queue.js";
import type { FloeUnixPeer, UnixSkEntry } from "./unix.schema.js";

/** Bit of `uflags`: a socket outside the tree, of which only the name is known. */
export const OUTSIDE = 1;

/** A socket being made. */
export class Making {
  readonly entry: UnixSkEntry;
  readonly queue: readonly SavedMessage[];
  fd: Fd | undefined;
  /** Its peer among the sockets of the images; for a client that was not accepted yet the listening socket. */
  peer: Making | undefined;
  /** A socket of ours that is connected to this one in place of a true sender that is not there. */
  standIn: Fd | undefined;
  /** Whether socketpair(2) made it. */
  isPaired = false;
  /** Whether it is no socket of the images: see {@link Making.standing}. */
  isStand = false;

  /** Whether it is handed over from outside: nothing is to be made. */
  readonly isGiven: boolean;
  /** Whether its peer is such a one. */
  lostPeer = false;

  constructor(entry: UnixSkEntry, queue: readonly SavedMessage[], isGiven = false) {
    this.entry = entry;
    this.queue = queue;
    this.isGiven = isGiven;
  }

  /** A listening socket that exists only while `end` and others like it are made. */
  static standing(end: Making, listener: FloeUnixPeer | undefined): Making {
    const { shutdown: _, peercred: __, ...entry } = end.entry;
    const stand = new Making({ ...entry, state: SOCKET_STATE.LISTEN, peer: 0, backlog: 0, ...(listener && { peercred: listener }) }, []);
    stand.isStand = true;
    return stand;
  }

  get made(): Fd {
    if (this.fd === undefined) throw new Error(`internal error: the UNIX socket ${this.entry.ino} has not been made`);
    return this.fd;
  }

  get isStream(): boolean {
    return this.entry.type !== SOCK_DGRAM;
  }

  get isListening(): boolean {
    return this.entry.state === SOCKET_STATE.LISTEN;
  }

  get isOutside(): boolean {
    return (this.entry.uflags & OUTSIDE) !== 0;
  }

  get isConnected(): boolean {
    return this.entry.state === SOCKET_STATE.ESTABLISHED;
  }

  /** Whether the peer is connected to this one as well. */
  get isMutual(): boolean {
    return this.peer !== undefined && this.peer.peer === this;
  }
}

/** A connection that has to be made through a listening socket. */
export interface Connection {
  /** The client's end, if somebody has it. */
  readonly client: Making | undefined;
  /** The server's end; undefined: it has not been accepted. */
  readonly end: Making | undefined;
  /** In whose name the client connects: what the server sees. */
  readonly connector: FloeUnixPeer | undefined;
  /** What the client has sent, where the server has not accepted. */
  readonly waiting?: Waiting;
  /** In whose name the server listens: what the client sees. */
  readonly listener: FloeUnixPeer | undefined;
}
