/**
 * What becomes of a TCP connection: kept, closed, or reset; for all of them, or by port.
 *
 * A connection with both ends in the tree harms nobody and is kept, except where --tcp-close says that none is.
 */
import type { SocketAddress } from "../../linux/addresses.js";
import { readFdLinks } from "../../linux/proc/list.js";
import { SOCKET_STATE, TCP_STATES_WITH_PEER, connectionInode, inetConnectionInodes } from "../../linux/sock-diag.js";
import type { DumpSession, RestoreSession } from "../part.js";
import type { PolicyOptions, TcpPolicy } from "../policy.js";
import { addressOf, inetEntries, unmapped } from "./inet-address.js";
import type { InetSkEntry } from "./inet.schema.js";
import { isConnection } from "./tcp-states.js";

/** `unsaid`: nobody said anything; a connection is refused then, a request for one is made again. */
export type Fate = TcpPolicy | "unsaid";

function decide(options: PolicyOptions, ports: readonly number[], isInside: () => boolean): Fate {
  const { general, byPort } = options.tcpPolicy;
  const said = ports.map((port) => byPort.get(port)).find((policy) => policy !== undefined) ?? general;
  if (said === undefined && options.tcpClose) return "close";
  if (said === "keep" || (said === undefined && options.tcpEstablished)) return "keep";
  return isInside() ? "keep" : (said ?? "unsaid");
}

type InetAddress = Extract<SocketAddress, { family: "inet" | "inet6" }>;
const isInet = (address: SocketAddress | undefined): address is InetAddress => address?.family === "inet" || address?.family === "inet6";

/** What a dump does with a connection; the port of its own end counts before the other's. */
export function fateAtDump(own: SocketAddress, peer: SocketAddress | undefined, session: DumpSession): Fate {
  if (!isInet(own) || !isInet(peer)) return decide(session.options, [], () => false);
  return decide(session.options, [own.port, peer.port], () => {
    const inode = connectionInode(peer, own) ?? listed(session).get(`${endText(peer)}-${endText(own)}`);
    return inode !== undefined && socketsOf(session).has(inode);
  });
}

const lists = new WeakMap<DumpSession, ReadonlyMap<string, number>>();

/** All connections: one that is bound to a device, or has an address of a link, is found only by who names the device. */
function listed(session: DumpSession): ReadonlyMap<string, number> {
  const known = lists.get(session) ?? inetConnectionInodes(TCP_STATES_WITH_PEER);
  lists.set(session, known);
  return known;
}

const endText = ({ address, port }: InetAddress) => `${unmapped(address).toString("hex")}.${port}`;

const held = new WeakMap<DumpSession, Set<number>>();

/** Inodes of all sockets that the tree has descriptors of. */
function socketsOf(session: DumpSession): Set<number> {
  let inodes = held.get(session);
  if (inodes === undefined) {
    inodes = new Set();
    for (const { traced } of session.tasks) {
      for (const link of readFdLinks(traced.pid)) {
        const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
        if (inode !== undefined) inodes.add(Number(inode));
      }
    }
    held.set(session, inodes);
  }
  return inodes;
}

/** What a restore does with a connection of the images. */
export function fateAtRestore(entry: InetSkEntry, session: RestoreSession): Fate {
  return decide(session.options, [entry.src_port, entry.dst_port], () => isInside(entry, session));
}

const ends = new WeakMap<RestoreSession, Set<string>>();

/** Whether the other end of a connection is in the images too. */
export function isInside(entry: InetSkEntry, session: RestoreSession): boolean {
  let known = ends.get(session);
  if (known === undefined) {
    known = new Set(
      inetEntries(session)
        .filter((e) => isConnection(e.state))
        .map((e) => pairText(e, "src", "dst")),
    );
    ends.set(session, known);
  }
  return known.has(pairText(entry, "dst", "src"));
}

function pairText(entry: InetSkEntry, from: "src" | "dst", to: "src" | "dst"): string {
  const text = (which: "src" | "dst") => {
    const address = addressOf(entry, which);
    return isInet(address) ? endText(address) : "?";
  };
  return `${text(from)}-${text(to)}`;
}

/** The entry of a connection that is to come back closed. */
export function asOver(entry: InetSkEntry, fate: "close" | "reset"): InetSkEntry {
  return { ...entry, state: SOCKET_STATE.CLOSE, shutdown: 3, ...(fate === "reset" ? { broken_off: true } : {}) };
}
