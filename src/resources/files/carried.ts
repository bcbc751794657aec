/**
 * Files whose contents came with the images (carry.ts), at a restore.
 *
 * A file that still is what it was is used where it is. One that is gone is made again under its name, with owner, mode,
 * times and the directories above it. Where its name leads to something else, or it cannot be made there, the process gets
 * a private copy: nothing that exists is ever overwritten, moved or changed.
 *
 * Made with   O_TMPFILE and linkat(2); private copies on a tmpfs that is mounted nowhere, under the name they had, so that
 *             /proc shows it (for /proc/PID/exe, too)
 */
import { closeSync, fstatSync, ftruncateSync } from "node:fs";
import { fchmodSync, fchownSync } from "node:fs";
import { dirname, normalize } from "../../linux/named-paths.js";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  rmdirSync,
  statSync,
  unlinkSync,
} from "../../linux/named-files.js";
import { ImageError, KernelError } from "../../errors.js";
import { imageFileName } from "../../images/kinds.js";
import { ERRNO } from "../../linux/errno.js";
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NOATIME,
  O_NONBLOCK,
  O_RDWR,
  O_TMPFILE,
  SEEK_DATA,
  SEEK_SET,
  linkat,
  lseek,
  openat,
  setTimes,
  setTimesOf,
} from "../../linux/files.js";
import { privateTmpfs } from "../../linux/private-tmpfs.js";
import { setXattr } from "../../linux/xattr.js";
import type { Fd, FileUse, Problem, RestoreSession } from "../part.js";
import { policyOf } from "../policy.js";
import { PRIVATE_COPY, readWhole } from "./carry.js";
import { type FloeCarriedFile, floeCarriedFile } from "./carried.schema.js";
import { copy } from "./deleted.js";
import type { RegFileEntry } from "./regular.schema.js";
import { fileEntry } from "./table.schema.js";
import { checkFile } from "./unchanged.js";

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const RWX = 0o7777;
const PRIVATE = 0o600;
const COMPARE_BYTES = 1 << 20;
const NOBODY: FileUse = { process: { pid: 0, comm: "" }, what: "" };
const IMAGE = imageFileName("FLOE_CARRIED", []);

function bad(file: string, because: string): ImageError {
  const remedy = ["Use an intact copy of the images directory", "Dump the process again"];
  return new ImageError({ code: "IMAGE_BAD_CARRIED", place: { file }, because, remedy });
}

/** The carried files of one restore. */
class CarriedFiles {
  readonly #session: RestoreSession;
  readonly #files = new Map<number, FloeCarriedFile>();
  readonly #directories = new Map<string, FloeCarriedFile>();
  /** By number: the entries that are the same file. */
  readonly #entries = new Map<number, RegFileEntry[]>();
  /** By number: the path that a name is opened under. */
  readonly #placed = new Map<number, ReadonlyMap<string, string>>();
  #root: Fd | undefined;

  constructor(session: RestoreSession) {
    this.#session = session;
    for (const { value } of session.images.records("FLOE_CARRIED", [], floeCarriedFile)) {
      if (value.path !== undefined) this.#directories.set(value.path, value);
      else this.#files.set(value.number, value);
    }
    for (const { value } of session.images.records("FILES", [], fileEntry)) {
      const number = value.reg?.carried;
      if (value.reg === undefined || number === undefined) continue;
      this.#entries.set(number, [...(this.#entries.get(number) ?? []), value.reg]);
    }
  }

  /** What is wrong with the images of a carried file. */
  problems(entry: RegFileEntry): Problem[] {
    const file = this.#files.get(entry.carried ?? 0);
    if (file === undefined) return [bad(IMAGE, `it has no file ${entry.carried}, which file ${entry.id} of files.img refers to`)];
    if (!entry.name.startsWith("/") || normalize(entry.name) !== entry.name)
      return [bad(imageFileName("FILES", []), `the name of carried file ${entry.id}, "${entry.name}", is no plain path`)];
    if (file.contents === undefined) return file.parts.length === 0 ? [] : [bad(IMAGE, `file ${file.number} has data, but no contents`)];
    try {
      const total = BigInt(fstatSync(this.#contents(file)).size);
      let end = 0n;
      for (const { off, len, at } of file.parts) {
        if (off < end || off + len > (file.size ?? 0n) || at + len > total)
          return [bad(IMAGE, `a part of file ${file.number} is outside of the file or of its contents`)];
        end = off + len;
      }
      return [];
    } catch (error) {
      if (error instanceof ImageError) return [error];
      throw error;
    }
  }

  #contents({ contents }: FloeCarriedFile): Fd {
    return this.#session.images.rawFile(imageFileName("FLOE_CARRIED_DATA", [contents ?? 0]));
  }

  /** The path to open `entry` with. */
  path(entry: RegFileEntry): string {
    const number = entry.carried ?? 0;
    let placed = this.#placed.get(number);
    const file = this.#files.get(number);
    if (file === undefined) return entry.name;
    if (placed === undefined) {
      placed = this.#place(file);
      this.#placed.set(number, placed);
    }
    return placed.get(entry.name) ?? entry.name;
  }

  #place(file: FloeCarriedFile): ReadonlyMap<string, string> {
    const entries = this.#entries.get(file.number) ?? [];
    const names = [...new Set(entries.map((entry) => entry.name))];
    if ((file.mode & S_IFMT) === S_IFDIR) {
      for (const name of names) this.#makeDirectory(name, file);
      return new Map();
    }
    const good = entries.find((entry) => this.#isStillThere(entry, file))?.name;
    if (good !== undefined) return new Map(names.map((name) => [name, isThere(name) ? name : good]));
    const first = names[0] ?? "";
    if (!names.some(isThere) && this.#makeAgain(names, file)) {
      this.#session.warn(`"${first}" was not there: it was made again as it was at the time of the dump`);
      return new Map();
    }
    this.#session.warn(`"${first}" is not the file it was: the process has a private copy of what it was at the time of the dump`);
    return this.#makePrivate(names, file);
  }

  #isStillThere(entry: RegFileEntry, file: FloeCarriedFile): boolean {
    const policy = policyOf(entry.name, this.#session.options);
    if (policy === "strict") return true;
    if (checkFile(entry, this.#session, NOBODY).length > 0) return false;
    return policy === "grown" || policy === "ignore" || this.#hasSameContents(entry.name, file);
  }

  #hasSameContents(name: string, file: FloeCarriedFile): boolean {
    const stat = statSync(name, { bigint: true });
    if (stat.size !== file.size) return false;
    if (stat.dev === file.dev && stat.ino === file.ino && stat.ctimeNs === file.ctime_ns) return true;
    const fd = openat(AT_FDCWD, name, { flags: O_NOATIME | O_NONBLOCK | O_CLOEXEC });
    try {
      let end = 0;
      for (const part of file.parts) {
        const [off, len] = [Number(part.off), Number(part.len)];
        if (!isEmpty(fd, end, off) || !isEqual({ fd, at: off }, { fd: this.#contents(file), at: Number(part.at) }, len)) return false;
        end = off + len;
      }
      return isEmpty(fd, end, Number(file.size));
    } finally {
      closeSync(fd);
    }
  }

  /** Makes the file under all of its names; false: it cannot be made there. */
  #makeAgain(names: readonly string[], file: FloeCarriedFile): boolean {
    const [first = "", ...more] = names;
    const made: string[] = [];
    try {
      for (const name of names) this.#makeDirectory(dirname(name), undefined);
      const fd = openat(AT_FDCWD, dirname(first), { flags: O_TMPFILE | O_RDWR | O_CLOEXEC, mode: PRIVATE });
      try {
        this.#fill(file, fd);
        linkat({ dirfd: AT_FDCWD, path: `/proc/self/fd/${fd}` }, { dirfd: AT_FDCWD, path: first }, AT_SYMLINK_FOLLOW);
      } finally {
        closeSync(fd);
      }
      made.push(first);
      for (const name of more) {
        linkSync(first, name);
        made.push(name);
      }
      for (const name of made) this.#session.takeBack(() => unlinkSync(name));
      return true;
    } catch (error) {
      for (const name of made) unlinkSync(name);
      if (!(error instanceof KernelError) && (error as NodeJS.ErrnoException).errno === undefined) throw error;
      return false;
    }
  }

  #makePrivate(names: readonly string[], file: FloeCarriedFile): ReadonlyMap<string, string> {
    this.#root ??= this.#makeRoot();
    const paths = new Map(names.map((name) => [name, `/proc/self/fd/${this.#root}${name}`]));
    const [first = "", ...more] = paths.values();
    for (const path of paths.values()) mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const fd = openat(AT_FDCWD, first, { flags: O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode: PRIVATE });
    try {
      this.#fill(file, fd);
      setXattr(first, { name: PRIVATE_COPY, value: Buffer.from("1") });
    } finally {
      closeSync(fd);
    }
    for (const path of more) linkSync(first, path);
    return paths;
  }

  #makeRoot(): Fd {
    const fd = privateTmpfs();
    chmodSync(`/proc/self/fd/${fd}`, 0o755);
    this.#session.closeLater(fd);
    return fd;
  }

  /** Contents, owner, mode, attributes, times: in the order in which none undoes another. */
  #fill(file: FloeCarriedFile, fd: Fd): void {
    ftruncateSync(fd, Number(file.size ?? 0n));
    for (const { off, len, at } of file.parts) {
      lseek(fd, off, SEEK_SET);
      copy({ fd: this.#contents(file), at: Number(at) }, fd, Number(len));
    }
    fchownSync(fd, file.uid, file.gid);
    fchmodSync(fd, file.mode & RWX);
    for (const { name, value } of file.xattrs) trySetXattr(`/proc/self/fd/${fd}`, { name, value: Buffer.from(value) });
    setTimesOf(fd, { atimeNs: file.atime_ns, mtimeNs: file.mtime_ns });
  }

  /** Makes a directory and those above it, where they are not there, as they were. */
  #makeDirectory(path: string, as: FloeCarriedFile | undefined): void {
    if (isThere(path)) return;
    this.#makeDirectory(dirname(path), undefined);
    const was = as ?? this.#directories.get(path);
    mkdirSync(path, PRIVATE);
    this.#session.takeBack(() => rmdirSync(path));
    chownSync(path, was?.uid ?? 0, was?.gid ?? 0);
    chmodSync(path, (was?.mode ?? 0o755) & RWX);
    if (was !== undefined) setTimes(path, { atimeNs: was.atime_ns, mtimeNs: was.mtime_ns });
  }
}

/** A file system without attributes of this kind takes none of them. */
function trySetXattr(path: string, one: { name: string; value: Buffer }): void {
  try {
    setXattr(path, one);
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ERRNO.ENOTSUP) throw error;
  }
}

function isThere(name: string): boolean {
  return lstatSync(name, { throwIfNoEntry: false }) !== undefined;
}

/** Whether a range of a file has zeros only. */
function isEmpty(fd: Fd, start: number, end: number): boolean {
  const bytes = Buffer.alloc(COMPARE_BYTES);
  for (let at = start; at < end; ) {
    const data = lseek(fd, BigInt(at), SEEK_DATA);
    if (data === undefined || data >= end) return true;
    const got = readWhole(fd, bytes.subarray(0, Math.min(COMPARE_BYTES, end - data)), data);
    if (got === 0) return true;
    if (!bytes.subarray(0, got).every((byte) => byte === 0)) return false;
    at = data + got;
  }
  return true;
}

function isEqual(left: { fd: Fd; at: number }, right: { fd: Fd; at: number }, len: number): boolean {
  const [a, b] = [Buffer.alloc(Math.min(COMPARE_BYTES, len)), Buffer.alloc(Math.min(COMPARE_BYTES, len))];
  for (let done = 0; done < len; done += COMPARE_BYTES) {
    const bytes = Math.min(COMPARE_BYTES, len - done);
    readWhole(left.fd, a.subarray(0, bytes), left.at + done);
    readWhole(right.fd, b.subarray(0, bytes), right.at + done);
    if (a.compare(b, 0, bytes, 0, bytes) !== 0) return false;
  }
  return true;
}

const ofSession = new WeakMap<RestoreSession, CarriedFiles>();

function carriedOf(session: RestoreSession): CarriedFiles {
  const known = ofSession.get(session) ?? new CarriedFiles(session);
  ofSession.set(session, known);
  return known;
}

/** The path to open the file of an entry with: its name, unless it was carried and its name does not lead to it. */
export function carriedPath(entry: RegFileEntry, session: RestoreSession): string {
  return entry.carried === undefined ? entry.name : carriedOf(session).path(entry);
}

/** Whether a carried file can be had; with the policy `strict` it is looked at like any other. */
export function checkCarried(entry: RegFileEntry, session: RestoreSession, use: FileUse): Problem[] {
  const problems = carriedOf(session).problems(entry);
  if (problems.length > 0 || policyOf(entry.name, session.options) === "strict") return [...problems, ...checkFile(entry, session, use)];
  const isDirectory = ((entry.mode ?? 0) & S_IFMT) === S_IFDIR;
  return isDirectory && existsSync(entry.name) ? checkFile(entry, session, use) : [];
}
