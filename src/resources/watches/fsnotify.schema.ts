/**
 * Image messages: inotify_wd_entry, inotify_file_entry, fanotify_inode_mark_entry, fanotify_mount_mark_entry, fanotify_mark_entry, fanotify_file_entry, mark_type.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";
import { fhEntry } from "./file-handle.schema.js";

export const markType = enumeration("mark_type", {
  INODE: 1,
  MOUNT: 2,
  /** Floe's own: a mark of a whole file system. */
  FILESYSTEM: 1000,
});

export const inotifyWdEntry = message("inotify_wd_entry", () => ({
  id: required.uint32(1),
  i_ino: required.uint64(2),
  mask: required.uint32(3, { hex: true }),
  ignored_mask: required.uint32(4, { hex: true }),
  s_dev: required.uint32(5, { dev: true }),
  wd: required.uint32(6),
  f_handle: required.message(7, () => fhEntry),
}));
export type InotifyWdEntry = Infer<typeof inotifyWdEntry>;

export const inotifyFileEntry = message("inotify_file_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { hex: true }),
  fown: required.message(4, () => fownEntry),
  wd: repeated.message(5, () => inotifyWdEntry),
  /** Events were in its queue. */
  unread: optional.bool(1000, { floe: true }),
}));
export type InotifyFileEntry = Infer<typeof inotifyFileEntry>;

export const fanotifyInodeMarkEntry = message("fanotify_inode_mark_entry", () => ({
  i_ino: required.uint64(1),
  f_handle: required.message(2, () => fhEntry),
}));
export type FanotifyInodeMarkEntry = Infer<typeof fanotifyInodeMarkEntry>;

export const fanotifyMountMarkEntry = message("fanotify_mount_mark_entry", () => ({
  mnt_id: required.uint32(1),
  path: optional.string(2),
}));
export type FanotifyMountMarkEntry = Infer<typeof fanotifyMountMarkEntry>;

export const fanotifyMarkEntry = message("fanotify_mark_entry", () => ({
  id: required.uint32(1),
  type: required.enum(2, () => markType),
  mflags: required.uint32(3, { hex: true }),
  mask: required.uint32(4, { hex: true }),
  ignored_mask: required.uint32(5, { hex: true }),
  s_dev: required.uint32(6, { dev: true }),
  ie: optional.message(7, () => fanotifyInodeMarkEntry),
  me: optional.message(8, () => fanotifyMountMarkEntry),
}));
export type FanotifyMarkEntry = Infer<typeof fanotifyMarkEntry>;

export const fanotifyFileEntry = message("fanotify_file_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { hex: true }),
  fown: required.message(3, () => fownEntry),
  faflags: required.uint32(4, { hex: true }),
  evflags: required.uint32(5, { hex: true }),
  mark: repeated.message(6, () => fanotifyMarkEntry),
  /** Events were in its queue. */
  unread: optional.bool(1000, { floe: true }),
}));
export type FanotifyFileEntry = Infer<typeof fanotifyFileEntry>;
