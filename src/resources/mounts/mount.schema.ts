/**
 * Image messages: mnt_entry, fstype.
 */
import { type Infer, enumeration, message, optional, required } from "../../images/codec/schema.js";

export const fstype = enumeration("fstype", {
  UNSUPPORTED: 0,
  PROC: 1,
  SYSFS: 2,
  DEVTMPFS: 3,
  BINFMT_MISC: 4,
  TMPFS: 5,
  DEVPTS: 6,
  SIMFS: 7,
  PSTORE: 8,
  SECURITYFS: 9,
  FUSECTL: 10,
  DEBUGFS: 11,
  CGROUP: 12,
  AUFS: 13,
  MQUEUE: 14,
  FUSE: 15,
  AUTO: 16,
  OVERLAYFS: 17,
  AUTOFS: 18,
  TRACEFS: 19,
  CGROUP2: 23,
});

export const mntEntry = message("mnt_entry", () => ({
  fstype: required.uint32(1),
  mnt_id: required.uint32(2),
  root_dev: required.uint32(3, { dev: true }),
  parent_mnt_id: required.uint32(4),
  flags: required.uint32(5, { hex: true }),
  root: required.string(6),
  mountpoint: required.string(7),
  source: required.string(8),
  options: required.string(9),
  shared_id: optional.uint32(10),
  master_id: optional.uint32(11),
  with_plugin: optional.bool(12),
  ext_mount: optional.bool(13),
  fsname: optional.string(14),
  internal_sharing: optional.bool(15),
  deleted: optional.bool(16),
  sb_flags: optional.uint32(17, { hex: true }),
  ext_key: optional.string(18),
}));
export type MntEntry = Infer<typeof mntEntry>;
