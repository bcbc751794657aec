/**
 * Names of UNIX sockets in the file system: binding to the same name in the same place, and taking nodes away again.
 */
import type { Stats } from "node:fs";
import { basename, dirname, join } from "../../linux/named-paths.js";
import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  rmdirSync,
  statSync,
  unlinkSync,
} from "../../linux/named-files.js";
import { AF_UNIX, type SocketAddress } from "../../linux/addresses.js";
import { chdir, inDirectory, withRoot } from "../../linux/files.js";
import { bind, connect } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import type { UnixSkEntry } from "./unix.schema.js";
import { cstring, textOf } from "../../linux/text.js";

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

const nameText = (entry: UnixSkEntry): string => textOf(Buffer.from(entry.name)).replace(/\0.*$/s, "");

/** The path of the node, from the root of the file system. */
export function pathOf(entry: UnixSkEntry): string {
  if (entry.node !== undefined) return entry.node;
  const name = nameText(entry);
  return name.startsWith("/") ? join(entry.root ?? "/", name) : join(entry.name_dir ?? "/", name);
}

/** Equal for sockets with the same name in the same place. */
export function nameKey(entry: UnixSkEntry): string {
  return hasPath(entry) ? pathOf(entry) : `@${entry.type}:${Buffer.from(entry.name).toString("latin1")}`;
}

/** Relative names are resolved from the directory where they were bound, absolute ones from the root that their process had. */
function bindThere(fd: Fd, entry: UnixSkEntry): void {
  const action = () => bind(fd, unixAddress(entry.name));
  if (hasPath(entry) && entry.node !== undefined) bindAndMove(action, nameText(entry), entry.node);
  else if (hasPath(entry) && entry.root !== undefined) withRoot(entry.root, action);
  else if (hasPath(entry) && entry.name_dir !== undefined) inDirectory(entry.name_dir, action);
  else action();
}

/** Binds below a root directory that is made for it, so that the name leads nowhere else, and moves the node to its place. */
function bindAndMove(bindHere: () => void, name: string, node: string): void {
  const root = mkdtempSync(join(dirname(node), ".floe-name-"));
  try {
    const parts = name.split("/").filter((part) => part !== "");
    // Every ".." leads out of a directory.
    const from = name.startsWith("/") ? "/" : `/${"d/".repeat(parts.filter((part) => part === "..").length)}`;
    let directory = from;
    mkdirSync(join(root, directory), { recursive: true });
    for (const part of parts.slice(0, -1)) {
      directory = join(directory, part);
      mkdirSync(join(root, directory), { recursive: true });
    }
    withRoot(root, () => {
      chdir(from);
      bindHere();
    });
    renameSync(join(root, directory, basename(name)), node);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Runs `send` where the address that it gets leads to the socket of `entry`. */
export function besideName<T>(entry: UnixSkEntry, send: (to: SocketAddress) => T): T {
  if (!hasPath(entry)) return send(unixAddress(entry.name));
  const path = pathOf(entry);
  if (entry.root !== undefined || entry.node !== undefined)
    return inDirectory(dirname(path), () => send(unixAddress(cstring(basename(path)))));
  return entry.name_dir === undefined ? send(unixAddress(entry.name)) : inDirectory(entry.name_dir, () => send(unixAddress(entry.name)));
}

/** Connects `fd` to the bound socket of `entry`. */
export function connectTo(fd: Fd, entry: UnixSkEntry): void {
  besideName(entry, (to) => connect(fd, to));
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
  bindThere(fd, entry);
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
