/**
 * Deleted files: what no name leads to any more lives on in the images, as CRIU's "ghost files".
 *
 * Read from   stat(2); contents by SEEK_DATA and SEEK_HOLE, so that holes stay holes; readlinkat(2)
 * Made with   O_TMPFILE and linkat(2), mkdir(2), mknod(2), symlink(2)
 *
 * Where such a file had its names, and how a restore gives it those for a moment, is in remap.ts.
 */
import { type BigIntStats, closeSync, fchmodSync, fchownSync, fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { dirname } from "../../linux/named-paths.js";
import { chmodSync, lchownSync, mkdirSync, symlinkSync } from "../../linux/named-files.js";
import { ImageError, KernelError } from "../../errors.js";
import { decode } from "../../images/codec/decode.js";
import { MessageWriter } from "../../images/codec/encode.js";
import type { MessageType } from "../../images/codec/schema.js";
import { imageFileName } from "../../images/kinds.js";
import { imageHead } from "../../images/sink.js";
import { checkMagic } from "../../images/source.js";
import { fromStatDevice, toKernelDevice } from "../../linux/device-numbers.js";
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
  SEEK_HOLE,
  SEEK_SET,
  linkat,
  lseek,
  mknodat,
  openat,
  readlinkOf,
  sendfile,
  setTimes,
  setTimesOf,
  type FileTimes,
} from "../../linux/files.js";
import { openQuietly } from "../../linux/quiet-open.js";
import { type Xattr, readXattrs, setXattr } from "../../linux/xattr.js";
import type { DumpSession, Fd, ImageSource } from "../part.js";
import { isHeard } from "../watches/listeners.js";
import { type GhostFileEntry, ghostChunkEntry, ghostFileEntry } from "./deleted.schema.js";

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFSOCK = 0o140000;
const RWX = 0o7777;
const NS_PER_US = 1000n;
const US_PER_S = 1_000_000n;
const COPY_BYTES = 1 << 24;
/** Extended attributes of one file may be as long as this on the usual file systems, and longer on few. */
const MAX_HEAD_BYTES = 1 << 20;
const PRIVATE = 0o600;

/** Writes ghost-file-N.img; `local` is any descriptor of the file, even an O_PATH one. */
export function saveGhost(number: number, file: { stat: BigIntStats; local: Fd }, session: DumpSession): void {
  const { stat, local } = file;
  const image = session.images.rawFile(imageFileName("GHOST_FILE", [number]));
  writeSync(image, imageHead("GHOST_FILE"));
  const format = Number(stat.mode) & S_IFMT;
  const entry = attributes(stat, format === S_IFLNK ? [] : keptXattrs(`/proc/self/fd/${local}`));
  if (format === S_IFLNK) entry.symlnk_target = readlinkOf(local);
  if (format !== S_IFREG) {
    writeSync(image, record(ghostFileEntry, entry));
    return;
  }
  const reader = openToRead(`/proc/self/fd/${local}`, isHeard(session));
  try {
    const sizeBytes = Number(stat.size);
    const parts = dataRanges(reader, sizeBytes);
    const isWhole = parts.length === 1 && parts[0]?.off === 0 && parts[0].len === sizeBytes;
    if (!isWhole && sizeBytes > 0) Object.assign(entry, { chunks: true, size: stat.size });
    writeSync(image, record(ghostFileEntry, entry));
    for (const { off, len } of parts) {
      if (!isWhole) writeSync(image, record(ghostChunkEntry, { off: BigInt(off), len: BigInt(len) }));
      copy({ fd: reader, at: off }, image, len);
    }
  } finally {
    closeSync(reader);
  }
}

/** Opens a file whose contents are needed in any case: without anybody being told, if that is possible. */
export function openToRead(path: string, isHeard: boolean): Fd {
  const quiet = isHeard ? openQuietly(path) : undefined;
  return quiet ?? openat(AT_FDCWD, path, { flags: O_NOATIME | O_NONBLOCK | O_CLOEXEC });
}

/** Labels of security modules belong to the machine; whatever else there is belongs to the file. */
export function keptXattrs(path: string): Xattr[] {
  return readXattrs(path).filter(({ name }) => !name.startsWith("security.") || name === "security.capability");
}

function record<T>(type: MessageType<T>, value: T): Buffer {
  const writer = new MessageWriter();
  writer.record(type, value);
  return writer.written();
}

function attributes(stat: BigIntStats, xattrs: GhostFileEntry["xattrs"]): GhostFileEntry {
  const format = Number(stat.mode) & S_IFMT;
  const entry: GhostFileEntry = {
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mode: Number(stat.mode),
    dev: toKernelDevice(fromStatDevice(stat.dev)),
    ino: stat.ino,
    atim: timeOf(stat.atimeNs),
    mtim: timeOf(stat.mtimeNs),
    atim_below_usec: Number(stat.atimeNs % NS_PER_US),
    mtim_below_usec: Number(stat.mtimeNs % NS_PER_US),
    xattrs,
  };
  if (format === S_IFCHR || format === S_IFBLK) entry.rdev = Number(stat.rdev);
  return entry;
}

function timeOf(ns: bigint) {
  const us = ns / NS_PER_US;
  return { tv_sec: us / US_PER_S, tv_usec: us % US_PER_S };
}

function nsOf(time: { tv_sec: bigint; tv_usec: bigint }, belowUs = 0): bigint {
  return (time.tv_sec * US_PER_S + time.tv_usec) * NS_PER_US + BigInt(belowUs);
}

/** Where a file has data; the rest are holes. */
export function dataRanges(fd: Fd, sizeBytes: number): { off: number; len: number }[] {
  const ranges: { off: number; len: number }[] = [];
  for (let at = 0; at < sizeBytes; ) {
    const off = lseek(fd, BigInt(at), SEEK_DATA);
    if (off === undefined || off >= sizeBytes) break;
    const end = Math.min(lseek(fd, BigInt(off), SEEK_HOLE) ?? sizeBytes, sizeBytes);
    ranges.push({ off, len: end - off });
    at = end;
  }
  return ranges;
}

/** Copies to the position of `to`. A file that got shorter meanwhile gives zeros. */
export function copy(from: { fd: Fd; at: number }, to: Fd, sizeBytes: number): void {
  for (let done = 0; done < sizeBytes; ) {
    const got = sendfile(to, { fd: from.fd, offset: BigInt(from.at + done) }, Math.min(COPY_BYTES, sizeBytes - done));
    done += got > 0 ? got : writeSync(to, Buffer.alloc(Math.min(COPY_BYTES, sizeBytes - done)));
  }
}

/** A deleted file in the images; its contents are `parts` of the image file. */
export interface SavedGhost {
  readonly entry: GhostFileEntry;
  readonly image: Fd;
  readonly parts: readonly { readonly off: number; readonly len: number; readonly at: number }[];
  readonly sizeBytes: number;
}

/** Reads ghost-file-N.img, except the contents. */
export function readGhost(number: number, images: ImageSource): SavedGhost {
  const file = imageFileName("GHOST_FILE", [number]);
  const image = images.rawFile(file);
  const total = fstatSync(image).size;
  const bad = (at: number, because: string) =>
    new ImageError({
      code: "IMAGE_BAD_GHOST",
      place: { file, offsetBytes: at },
      because,
      remedy: ["Use an intact copy of the images directory", "Dump the process again"],
    });
  const read = (at: number, length: number) => {
    if (length > MAX_HEAD_BYTES || at + length > total) throw bad(at, `${length} bytes are announced, ${Math.max(0, total - at)} are left`);
    const bytes = Buffer.alloc(length);
    if (readSync(image, bytes, 0, length, at) !== length) throw bad(at, "it cannot be read to its end");
    return bytes;
  };
  const next = <T>(type: MessageType<T>, at: number) => {
    const length = read(at, 4).readUInt32LE(0);
    return { value: decode(type, read(at + 4, length), { file, offsetBytes: at + 4 }), end: at + 4 + length };
  };
  const { value: entry, end } = next(ghostFileEntry, checkMagic("GHOST_FILE", file, read(0, Math.min(total, 8))));
  if (entry.chunks !== true)
    return { entry, image, parts: total > end ? [{ off: 0, len: total - end, at: end }] : [], sizeBytes: total - end };
  const sizeBytes = Number(entry.size ?? 0n);
  const parts: { off: number; len: number; at: number }[] = [];
  for (let at = end; at < total; ) {
    const { value, end: data } = next(ghostChunkEntry, at);
    const [off, len] = [Number(value.off), Number(value.len)];
    if (off + len > sizeBytes || data + len > total)
      throw bad(at, `a piece of ${len} bytes at ${off} is outside of the file or of the image`);
    parts.push({ off, len, at: data });
    at = data + len;
  }
  return { entry, image, parts, sizeBytes };
}

export function isRegularGhost({ entry }: SavedGhost): boolean {
  return (entry.mode & S_IFMT) === S_IFREG;
}

/** Makes the file under `path`, where nothing is. */
export function makeGhost(ghost: SavedGhost, path: string): void {
  const { entry } = ghost;
  const format = entry.mode & S_IFMT;
  if (format === S_IFREG) {
    const fd = newFile(path);
    try {
      fillGhost(ghost, fd);
      if (fstatSync(fd).nlink === 0) linkat({ dirfd: AT_FDCWD, path: `/proc/self/fd/${fd}` }, { dirfd: AT_FDCWD, path }, AT_SYMLINK_FOLLOW);
    } finally {
      closeSync(fd);
    }
  } else if (format === S_IFDIR) mkdirSync(path, PRIVATE);
  else if (format === S_IFLNK) symlinkSync(entry.symlnk_target ?? "", path);
  else mknodat(AT_FDCWD, path, { mode: format | PRIVATE, device: BigInt(format === S_IFSOCK ? 0 : (entry.rdev ?? 0)) });
  setAttributes(ghost, path);
}

/** A file without a name yet where the file system can make one, so that nobody sees it half full. */
function newFile(path: string): Fd {
  try {
    return openat(AT_FDCWD, dirname(path), { flags: O_TMPFILE | O_RDWR | O_CLOEXEC, mode: PRIVATE });
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return openat(AT_FDCWD, path, { flags: O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode: PRIVATE });
  }
}

/** Puts the contents into the empty file behind `fd`, open for writing. */
function fillGhost(ghost: SavedGhost, fd: Fd): void {
  ftruncateSync(fd, ghost.sizeBytes);
  for (const { off, len, at } of ghost.parts) {
    lseek(fd, BigInt(off), SEEK_SET);
    copy({ fd: ghost.image, at }, fd, len);
  }
}

/** Fills the new file behind `fd`, which has no name and is open for writing, and gives it owner, mode and times. */
export function fillUnnamed(ghost: SavedGhost, fd: Fd): void {
  const { entry } = ghost;
  fillGhost(ghost, fd);
  fchownSync(fd, entry.uid, entry.gid);
  fchmodSync(fd, entry.mode & RWX);
  setXattrs(entry, `/proc/self/fd/${fd}`);
  const times = timesOf(entry);
  if (times !== undefined) setTimesOf(fd, times);
}

function setAttributes({ entry }: SavedGhost, path: string): void {
  lchownSync(path, entry.uid, entry.gid);
  if ((entry.mode & S_IFMT) !== S_IFLNK) {
    chmodSync(path, entry.mode & RWX);
    setXattrs(entry, path);
  }
  const times = timesOf(entry);
  if (times !== undefined) setTimes(path, times);
}

/** After owner and mode: a change of owner takes capabilities away, and a change of mode changes an access list. */
function setXattrs({ xattrs }: GhostFileEntry, path: string): void {
  for (const { name, value } of xattrs) setXattr(path, { name, value: Buffer.from(value) });
}

function timesOf(entry: GhostFileEntry): FileTimes | undefined {
  if (entry.atim === undefined || entry.mtim === undefined) return undefined;
  return { atimeNs: nsOf(entry.atim, entry.atim_below_usec), mtimeNs: nsOf(entry.mtim, entry.mtim_below_usec) };
}
