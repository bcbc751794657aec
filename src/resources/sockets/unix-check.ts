/**
 * What certainly keeps a UNIX socket from being made again: its name is in use, or its place is gone.
 */
import type { Stats } from "node:fs";
import { dirname } from "../../linux/named-paths.js";
import { lstatSync, statSync } from "../../linux/named-files.js";
import { ImageError, Refusal } from "../../errors.js";
import { type UnixSocketInfo, SOCKET_STATE, unixSockets } from "../../linux/sock-diag.js";
import { SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM } from "../../linux/sockets.js";
import { fileEntry } from "../files/table.schema.js";
import type { FileUse, Problem, RestoreSession } from "../part.js";
import { checkBacklog } from "./unix-backlog.js";
import { OUTSIDE } from "./unix-making.js";
import { findOutside, missingPeer } from "./unix-outside.js";
import { hasPath, isBound, pathOf } from "./unix-names.js";
import type { UnixSkEntry } from "./unix.schema.js";
import { textOf } from "../../linux/text.js";

interface Surroundings {
  /** Sockets that exist on this machine. */
  readonly present: readonly UnixSocketInfo[];
  /** Sockets in the images, by inode. */
  readonly saved: ReadonlyMap<number, UnixSkEntry>;
}

const known = new WeakMap<RestoreSession, Surroundings>();

function surroundingsOf(session: RestoreSession): Surroundings {
  let found = known.get(session);
  if (found === undefined) {
    const saved = session.images.records("FILES", [], fileEntry).flatMap(({ value }) => value.usk ?? []);
    found = { present: [...unixSockets().values()], saved: new Map(saved.map((one) => [one.ino, one])) };
    known.set(session, found);
  }
  return found;
}

export function checkUnixSocket(entry: UnixSkEntry, session: RestoreSession, use: FileUse): Problem[] {
  const around = surroundingsOf(session);
  const bad = (field: string, because: string) => [
    new ImageError({
      code: "IMAGE_BAD_VALUE",
      place: { file: "files.img", message: "unix_sk_entry", field },
      because,
      remedy: ["Dump the process again"],
    }),
  ];
  if (![SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET].includes(entry.type))
    return bad("type", `there are no UNIX sockets of type ${entry.type}`);
  if (entry.peer !== 0 && !around.saved.has(entry.peer))
    return bad("peer", `socket ${entry.ino} has the peer ${entry.peer}, which is not in the images`);
  const peer = around.saved.get(entry.peer);
  const isMissing = peer !== undefined && (peer.uflags & OUTSIDE) !== 0 && findOutside(peer, around.present) === undefined;
  if (isMissing) return [missingPeer(peer, entry, use)];
  if (!isBound(entry)) return [];
  const backlog = checkBacklog(entry, session);
  if (backlog.length > 0) return backlog;
  return hasPath(entry) ? checkPath(entry, around, use) : checkAbstract(entry, around, use);
}

function refuse(use: FileUse, name: string, because: string, remedy: string): Problem[] {
  return [
    new Refusal(
      { code: "UNIX_NAME_TAKEN", process: use.process, resource: `${use.what} UNIX socket "${name}"`, because, remedy: [remedy] },
      "restore",
    ),
  ];
}

/** Ends of connections that were accepted share the name of their listening socket: they do not claim it. */
const claimsName = (entry: UnixSkEntry) => entry.type === SOCK_DGRAM || entry.state !== SOCKET_STATE.ESTABLISHED;

function checkAbstract(entry: UnixSkEntry, { present }: Surroundings, use: FileUse): Problem[] {
  const name = Buffer.from(entry.name);
  const owner = present.find((s) => s.type === entry.type && s.name?.equals(name) === true);
  if (owner === undefined) return [];
  return refuse(
    use,
    textOf(name).replace(/^\0/, "@"),
    `socket ${owner.inode} has the name now`,
    "End the program that uses the name, or restore in a network namespace of its own",
  );
}

function checkPath(entry: UnixSkEntry, { present }: Surroundings, use: FileUse): Problem[] {
  if (entry.deleted === true || !claimsName(entry)) return [];
  const path = pathOf(entry);
  if (statSync(dirname(path), { throwIfNoEntry: false }) === undefined)
    return refuse(use, path, "its directory is gone", `Make the directory "${dirname(path)}" again`);
  const there: Stats | undefined = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return [];
  if (!there.isSocket()) return refuse(use, path, "something that is no socket has its name now", `Move "${path}" away`);
  const owner = present.find((s) => s.node?.inode === (there.ino & 0xffff_ffff) >>> 0 && s.name !== undefined && claims(s));
  return owner === undefined ? [] : refuse(use, path, `socket ${owner.inode} uses the name now`, "End the program that uses the socket");
}

function claims(socket: UnixSocketInfo): boolean {
  return socket.type === SOCK_DGRAM || socket.state !== SOCKET_STATE.ESTABLISHED;
}
