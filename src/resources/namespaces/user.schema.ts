/**
 * Image messages: uid_gid_extent, userns_entry.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";

export const uidGidExtent = message("uid_gid_extent", () => ({
  first: required.uint32(1),
  lower_first: required.uint32(2),
  count: required.uint32(3),
}));
export type UidGidExtent = Infer<typeof uidGidExtent>;

export const usernsEntry = message("userns_entry", () => ({
  uid_map: repeated.message(1, () => uidGidExtent),
  gid_map: repeated.message(2, () => uidGidExtent),
}));
export type UsernsEntry = Infer<typeof usernsEntry>;
