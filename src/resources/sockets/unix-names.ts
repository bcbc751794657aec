/**
 * Names of UNIX sockets in the file system: binding to the same name in the same place, and taking nodes away again.
 */
import { chmodSync, lchownSync, lstatSync, mkdirSync, renameSync, rmdirSync, statSync, unlinkSync, type Stats } from "node:fs";
import { basename, dirname, join } from "node:path";
import { AF_UNIX, type SocketAddress } from "../../linux/addresses.js";
import { bind, connect } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import type { UnixSkEntry } from "./unix.schema.js";

const PERMISSIONS = 0o7777;

/** A sockaddr_un with the very bytes of the name. */
export function unixAddress(name: Uint8Array): SocketAddress {
  const bytes = Buffer.alloc(2 + name.length);
  bytes.writeUInt16LE(AF_UNIX, 0);
  bytes.set(name, 2);
  return { family: "other", number: AF_UNIX, bytes };
}

export function isBound(entry: UnixSkEntry): boolean {
  return entry.name.length > 0;
}

/** Whether the name is a path, rather than abstract. */
export function hasPath(entry: UnixSkEntry): boolean {
  return entry.name.length > 0 && entry.name[0] !== 0;
}

/** The path of the node, from the root of the file system. */
export function pathOf(entry: UnixSkEntry): string {
  const name = Buffer.from(entry.name).toString("utf8").replace(/\0.*$/s, "");
  return name.startsWith("/") ? name : join(entry.name_dir ?? "/", name);
}

/** Equal for sockets with the same name in the same place. */
export function nameKey(entry: UnixSkEntry): string {
  return hasPath(entry) ? pathOf(entry) : `@${entry.type}:${Buffer.from(entry.name).toString("latin1")}`;
}

/** Relative names are resolved from the directory where they were bound. */
function inDirectory<T>(entry: UnixSkEntry, action: () => T): T {
  if (!hasPath(entry) || entry.name_dir === undefined) return action();
  const before = process.cwd();
  process.chdir(entry.name_dir);
  try {
    return action();
  } finally {
    process.chdir(before);
  }
}

/** Connects `fd` to the bound socket of `entry`. */
export function connectTo(fd: Fd, entry: UnixSkEntry): void {
  inDirectory(entry, () => connect(fd, unixAddress(entry.name)));
}

/** Runs `send` where the name of `entry` leads to it. */
export function besideName<T>(entry: UnixSkEntry, send: (to: SocketAddress) => T): T {
  return inDirectory(entry, () => send(unixAddress(entry.name)));
}

/** A node that a restore makes. */
export interface MadeNode {
  /** Takes the node away and puts back what had its place, if the name is not to stay. */
  settle(): void;
}

/**
 * Binds `fd` to the name of `entry`. The node of a deleted name stays until it is settled.
 *
 * `yields`: a node that is there already is somebody else's and gets its place back. Else it is what the dumped process
 * left behind.
 */
export function bindTo(fd: Fd, entry: UnixSkEntry, { yields }: { yields: boolean }): MadeNode | undefined {
  if (!hasPath(entry)) {
    bind(fd, unixAddress(entry.name));
    return undefined;
  }
  const path = pathOf(entry);
  const isDeleted = entry.deleted === true;
  const made = isDeleted ? makeDirectories(dirname(path)) : [];
  const aside = clearPlace(path, isDeleted || yields);
  inDirectory(entry, () => bind(fd, unixAddress(entry.name)));
  if (entry.file_perms !== undefined) {
    lchownSync(path, entry.file_perms.uid, entry.file_perms.gid);
    chmodSync(path, entry.file_perms.mode & PERMISSIONS);
  }
  return {
    settle() {
      if (!isDeleted && aside === undefined) return;
      unlinkSync(path);
      if (aside !== undefined) renameSync(aside, path);
      for (const directory of made.reverse()) rmdirSync(directory);
    },
  };
}

/** Makes the directories of a path that are gone; returns those, outermost first. */
function makeDirectories(path: string): string[] {
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) return [];
  const above = makeDirectories(dirname(path));
  mkdirSync(path);
  return [...above, path];
}

/** Makes room for a node: what is there goes, or steps aside for a while. */
function clearPlace(path: string, aside: boolean): string | undefined {
  const there: Stats | undefined = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return undefined;
  if (!aside) {
    unlinkSync(path);
    return undefined;
  }
  const name = join(dirname(path), `.${basename(path)}.floe-${process.pid}`);
  renameSync(path, name);
  return name;
}
