/**
 * Image messages: file_perms_entry, unix_sk_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";
import { skOptsEntry, skShutdown } from "./options.schema.js";

export const filePermsEntry = message("file_perms_entry", () => ({
  mode: required.uint32(1),
  uid: required.uint32(2),
  gid: required.uint32(3),
}));
export type FilePermsEntry = Infer<typeof filePermsEntry>;

/** Process, effective ids and groups of whoever made a connection, as the other end sees them. */
export const floeUnixPeer = message("floe_unix_peer", () => ({
  pid: required.uint32(1),
  uid: required.uint32(2),
  gid: required.uint32(3),
  groups: repeated.uint32(4),
}));
export type FloeUnixPeer = Infer<typeof floeUnixPeer>;

export const unixSkEntry = message("unix_sk_entry", () => ({
  id: required.uint32(1),
  ino: required.uint32(2),
  type: required.uint32(3, { dict: "sk.type" }),
  state: required.uint32(4, { dict: "sk.state" }),
  flags: required.uint32(5, { hex: true }),
  uflags: required.uint32(6, { hex: true }),
  backlog: required.uint32(7),
  peer: required.uint32(8),
  fown: required.message(9, () => fownEntry),
  opts: required.message(10, () => skOptsEntry),
  name: required.bytes(11, { conv: "quoted-printable" }),
  shutdown: optional.enum(12, () => skShutdown),
  file_perms: optional.message(13, () => filePermsEntry),
  name_dir: optional.string(14),
  deleted: optional.bool(15),
  ns_id: optional.uint32(16),
  mnt_id: optional.sint32(17, { default: -1 }),
  /** Connected to a socket that has been closed, where `state` does not tell. */
  peer_gone: optional.bool(1001, { floe: true }),
  /** SO_ERROR that the program has not read yet. */
  so_error: optional.uint32(1000, { floe: true }),
  /** SO_PEERCRED, SO_PEERGROUPS. */
  peercred: optional.message(1002, () => floeUnixPeer, { floe: true }),
  /** Of a client that waits to be accepted: what its server will see. */
  connector: optional.message(1003, () => floeUnixPeer, { floe: true }),
  /** Of a listening socket: inodes of clients that wait, in their order. */
  pending: repeated.uint32(1004, { floe: true }),
  /** What these have sent is in floe-unix-backlog.img. */
  backlog_apart: optional.bool(1005, { floe: true }),
  /** Root directory of the process that gave an absolute name, if it is another one. */
  root: optional.string(1006, { floe: true }),
  /** Where its node is, if its name does not lead there: it was moved since, or the name is from another place. */
  node: optional.string(1007, { floe: true }),
}));
export type UnixSkEntry = Infer<typeof unixSkEntry>;
