/**
 * Files that go into the images with their contents, as asked for by `--file-policy carry`: a process comes back where they
 * are missing (carried.ts).
 *
 * Read from   stat(2); contents by SEEK_DATA and SEEK_HOLE, ahead of the freeze where possible (carry-ahead.ts)
 *
 * One copy for each inode; equal contents of several are in the images once. Directories that are open, are a working
 * directory, or lie above a carried file are carried by owner and mode. A private copy that an earlier restore made has no
 * other place, and is carried in any case.
 */
import { type BigIntStats, fstatSync, readSync } from "node:fs";
import { dirname } from "../../linux/named-paths.js";
import { lstatSync, statSync } from "../../linux/named-files.js";
import { KernelError, type ProcessName, Refusal } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import { readXattrs } from "../../linux/xattr.js";
import type { DumpSession, Fd } from "../part.js";
import { policyOf } from "../policy.js";
import { isHeard } from "../watches/listeners.js";
import { type FileCopy, copyFile, inodeKey, isOfKernel, isUnchanged } from "./carry-ahead.js";
import { type FloeCarriedFile, floeCarriedFile } from "./carried.schema.js";
import type { RegFileEntry } from "./regular.schema.js";
import { isRegular } from "./unchanged.js";

const DELETED = " (deleted)";
const S_IFMT = 0o170000n;
const S_IFDIR = 0o040000n;
const COMPARE_BYTES = 1 << 20;
/** Attribute of a private copy that a restore has made. */
export const PRIVATE_COPY = "trusted.floe.carried";

/** A file as the dump has found it. */
export interface CarriedUse {
  readonly link: string;
  readonly stat: BigIntStats;
  readonly openPath: string;
  readonly mayBeRead: boolean;
  readonly process: ProcessName;
  readonly what: string;
}

/** What is carried by one dump. */
interface Carried {
  readonly numbers: Map<string, number>;
  readonly files: { readonly number: number; readonly stat: BigIntStats; readonly copy: FileCopy | undefined }[];
  readonly names: Set<string>;
  /** Copies that have their name already, where there are no files without names. */
  readonly named: Set<Fd>;
  /** Inodes that somebody maps shared and may write to: their times do not tell whether they have changed. */
  readonly writable: ReadonlySet<bigint>;
}

const ofSession = new WeakMap<DumpSession, Carried>();

function carriedOf(session: DumpSession): Carried {
  const known = ofSession.get(session);
  if (known !== undefined) return known;
  const shared = session.tasks.flatMap((task) => task.vmas.filter((vma) => vma.shared && vma.flags.has("mw")));
  const made = {
    numbers: new Map(),
    files: [],
    names: new Set<string>(),
    named: new Set<Fd>(),
    writable: new Set(shared.map((vma) => vma.inode)),
  };
  ofSession.set(session, made);
  session.later(() => write(made, session));
  return made;
}

/** The entry of a file, with its contents taken along if that is wanted. */
export function carry(entry: RegFileEntry, file: CarriedUse, session: DumpSession): RegFileEntry {
  const { stat, link } = file;
  const isDirectory = (stat.mode & S_IFMT) === S_IFDIR;
  // What no name leads to any more is carried as a deleted file.
  if ((!isRegular(stat) && !isDirectory) || isOfKernel(entry.name) || (link.endsWith(DELETED) && link !== entry.name)) return entry;
  if (policyOf(entry.name, session.options) !== "carry" && !(isRegular(stat) && isPrivateCopy(entry.name, file, session))) return entry;
  const all = carriedOf(session);
  let number = all.numbers.get(inodeKey(stat));
  if (number === undefined) {
    number = all.files.length + 1;
    const copied = isDirectory ? undefined : contents(file, { all, number }, session);
    if (!isDirectory && copied === undefined) return entry;
    all.numbers.set(inodeKey(stat), number);
    all.files.push({ number, stat, copy: copied });
  }
  all.names.add(entry.name);
  return { ...entry, carried: number };
}

/** Such a one is on a file system of its own, so that its name leads to something else or to nothing. */
function isPrivateCopy(name: string, file: CarriedUse, session: DumpSession): boolean {
  const { stat, mayBeRead } = file;
  if (!mayBeRead || stat.dev >> 8n !== 0n) return false;
  const known = lookedAt.get(session) ?? new Map<string, boolean>();
  lookedAt.set(session, known);
  const key = `${inodeKey(stat)} ${name}`;
  const is = known.get(key) ?? looksPrivate(name, file);
  known.set(key, is);
  return is;
}

/** By inode and name: a file may be open many times. */
const lookedAt = new WeakMap<DumpSession, Map<string, boolean>>();

function looksPrivate(name: string, { stat, openPath }: CarriedUse): boolean {
  const there = lstatSync(name, { bigint: true, throwIfNoEntry: false });
  if (there !== undefined && there.ino === stat.ino && there.dev === stat.dev) return false;
  return readXattrs(openPath).some((one) => one.name === PRIVATE_COPY);
}

function contents(file: CarriedUse, { all, number }: { all: Carried; number: number }, session: DumpSession): FileCopy | undefined {
  const ahead = session.filesAhead.get(inodeKey(file.stat));
  if (ahead !== undefined && isUnchanged(ahead.stat, file.stat) && !all.writable.has(file.stat.ino)) return ahead;
  if (!file.mayBeRead)
    return refuse(file, session, "it is under a lease that reading it would break, or the frozen tree decides who may open it");
  let to = session.images.scratch();
  if (to === undefined) {
    to = session.images.rawFile(imageFileName("FLOE_CARRIED_DATA", [number]));
    all.named.add(to);
  }
  try {
    return copyFile(file.openPath, to, isHeard(session));
  } catch (error) {
    if (error instanceof KernelError && error.call.startsWith("openat")) return refuse(file, session, error.message);
    throw error;
  }
}

function refuse(file: CarriedUse, session: DumpSession, because: string): undefined {
  session.refuse(
    new Refusal({
      code: "FILE_NOT_CARRIED",
      process: file.process,
      resource: `${file.what}, the file "${file.link}"`,
      because: `its contents cannot be taken along: ${because}`,
      remedy: [`Leave it out: --file-policy "carry,${file.link}=strict"`],
    }),
  );
  return undefined;
}

/** Writes floe-carried.img, and names the contents. */
function write({ files, names, named }: Carried, session: DumpSession): void {
  const put = (value: FloeCarriedFile) => session.images.append("FLOE_CARRIED", [], { type: floeCarriedFile, value });
  const written: { number: number; copy: FileCopy }[] = [];
  for (const { number, stat, copy } of files) {
    if (copy === undefined || copy.parts.length === 0) {
      put({ ...attributes(number, stat, copy), size: copy === undefined ? 0n : stat.size });
      continue;
    }
    let same = named.has(copy.fd) ? undefined : written.find((other) => hasSameBytes(other.copy, copy));
    if (same === undefined) {
      if (!named.has(copy.fd)) session.images.giveName(copy.fd, imageFileName("FLOE_CARRIED_DATA", [number]));
      same = { number, copy };
      written.push(same);
    }
    const parts = copy.parts.map(({ off, len, at }) => ({ off: BigInt(off), len: BigInt(len), at: BigInt(at) }));
    put({ ...attributes(number, copy.stat, copy), size: copy.stat.size, contents: same.number, parts });
  }
  for (const path of directoriesAbove(names)) {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat !== undefined) put({ ...attributes(0, stat, undefined), path });
  }
}

function attributes(number: number, stat: BigIntStats, copy: FileCopy | undefined): FloeCarriedFile {
  return {
    number,
    mode: Number(stat.mode),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    atime_ns: stat.atimeNs,
    mtime_ns: stat.mtimeNs,
    xattrs: (copy?.xattrs ?? []).filter(({ name }) => name !== PRIVATE_COPY),
    parts: [],
    dev: stat.dev,
    ino: stat.ino,
    ctime_ns: stat.ctimeNs,
  };
}

function directoriesAbove(names: ReadonlySet<string>): Set<string> {
  const found = new Set<string>();
  for (const name of names) for (let at = dirname(name); at !== "/" && !found.has(at); at = dirname(at)) found.add(at);
  return found;
}

function hasSameBytes(a: FileCopy, b: FileCopy): boolean {
  const total = fstatSync(a.fd).size;
  if (total !== fstatSync(b.fd).size) return false;
  const [left, right] = [Buffer.alloc(COMPARE_BYTES), Buffer.alloc(COMPARE_BYTES)];
  for (let at = 0; at < total; at += COMPARE_BYTES) {
    const got = readWhole(a.fd, left, at);
    if (got !== readWhole(b.fd, right, at) || left.compare(right, 0, got, 0, got) !== 0) return false;
  }
  return true;
}

/** Reads until `into` is full or the file ends. */
export function readWhole(fd: Fd, into: Buffer, position: number): number {
  let got = 0;
  for (;;) {
    const more = got < into.length ? readSync(fd, into, got, into.length - got, position + got) : 0;
    if (more === 0) return got;
    got += more;
  }
}
