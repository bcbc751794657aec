/**
 * Image messages: ghost_file_entry, ghost_chunk_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { timeval } from "../timers/time.schema.js";

/** An extended attribute. */
export const floeXattr = message("floe_xattr", () => ({
  name: required.string(1),
  value: required.bytes(2),
}));

export const ghostFileEntry = message("ghost_file_entry", () => ({
  uid: required.uint32(1),
  gid: required.uint32(2),
  mode: required.uint32(3),
  dev: optional.uint32(4, { dev: true }),
  ino: optional.uint64(5),
  rdev: optional.uint32(6, { odev: true }),
  atim: optional.message(7, () => timeval),
  mtim: optional.message(8, () => timeval),
  chunks: optional.bool(9),
  size: optional.uint64(10),
  symlnk_target: optional.string(11),
  /** Nanoseconds below the microseconds of the times above. */
  atim_below_usec: optional.uint32(1000, { floe: true }),
  mtim_below_usec: optional.uint32(1001, { floe: true }),
  xattrs: repeated.message(1002, () => floeXattr, { floe: true }),
}));
export type GhostFileEntry = Infer<typeof ghostFileEntry>;

export const ghostChunkEntry = message("ghost_chunk_entry", () => ({
  len: required.uint64(1),
  off: required.uint64(2),
}));
export type GhostChunkEntry = Infer<typeof ghostChunkEntry>;
