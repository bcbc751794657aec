/**
 * Image messages of Floe's own: floe_carried_file, floe_carried_part.
 *
 * floe-carried.img has one record for each file (inode) or directory; the contents are in floe-carried-N.img, the parts with
 * data one behind the other, without the holes between them.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { floeXattr } from "./deleted.schema.js";

/** Bytes `off` to `off + len` of the file are at `at` in its contents. */
export const floeCarriedPart = message("floe_carried_part", () => ({
  off: required.uint64(1),
  len: required.uint64(2),
  at: required.uint64(3),
}));
export type FloeCarriedPart = Infer<typeof floeCarriedPart>;

export const floeCarriedFile = message("floe_carried_file", () => ({
  /** What reg_file_entry.carried says; 0: a directory above a file, known by its path. */
  number: required.uint32(1),
  mode: required.uint32(2),
  uid: required.uint32(3),
  gid: required.uint32(4),
  atime_ns: required.sint64(5),
  mtime_ns: required.sint64(6),
  xattrs: repeated.message(7, () => floeXattr),
  /** Of a directory. */
  path: optional.string(8),
  size: optional.uint64(9),
  /** Number of the image with its contents; equal contents are there once. None: a file without data, or a directory. */
  contents: optional.uint32(10),
  parts: repeated.message(11, () => floeCarriedPart),
  /** Which file it was on the machine of the dump, and its last change there: such a one need not be compared. */
  dev: optional.uint64(12),
  ino: optional.uint64(13),
  ctime_ns: optional.sint64(14),
}));
export type FloeCarriedFile = Infer<typeof floeCarriedFile>;
