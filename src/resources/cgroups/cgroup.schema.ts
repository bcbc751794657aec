/**
 * Image messages: cgroup_perms, cgroup_prop_entry, cgroup_dir_entry, cg_controller_entry, cg_member_entry, cg_set_entry, cgroup_entry.
 */
import { type Infer, type MessageType, message, optional, repeated, required } from "../../images/codec/schema.js";

export const cgroupPerms = message("cgroup_perms", () => ({
  mode: required.uint32(1),
  uid: required.uint32(2),
  gid: required.uint32(3),
}));
export type CgroupPerms = Infer<typeof cgroupPerms>;

export const cgroupPropEntry = message("cgroup_prop_entry", () => ({
  name: required.string(1),
  value: required.string(2),
  perms: optional.message(3, () => cgroupPerms),
}));
export type CgroupPropEntry = Infer<typeof cgroupPropEntry>;

/** Values of cgroupDirEntry; spelled out because the message contains itself. */
export interface CgroupDirEntry {
  dir_name: string;
  children: CgroupDirEntry[];
  properties: CgroupPropEntry[];
  dir_perms?: CgroupPerms | undefined;
}

export const cgroupDirEntry: MessageType<CgroupDirEntry> = message("cgroup_dir_entry", () => ({
  dir_name: required.string(1),
  children: repeated.message(2, (): MessageType<CgroupDirEntry> => cgroupDirEntry),
  properties: repeated.message(3, () => cgroupPropEntry),
  dir_perms: optional.message(4, () => cgroupPerms),
}));

export const cgControllerEntry = message("cg_controller_entry", () => ({
  cnames: repeated.string(1),
  dirs: repeated.message(2, () => cgroupDirEntry),
  is_threaded: optional.bool(3),
}));
export type CgControllerEntry = Infer<typeof cgControllerEntry>;

export const cgMemberEntry = message("cg_member_entry", () => ({
  name: required.string(1),
  path: required.string(2),
  cgns_prefix: optional.uint32(3),
}));
export type CgMemberEntry = Infer<typeof cgMemberEntry>;

export const cgSetEntry = message("cg_set_entry", () => ({
  id: required.uint32(1),
  ctls: repeated.message(2, () => cgMemberEntry),
}));
export type CgSetEntry = Infer<typeof cgSetEntry>;

export const cgroupEntry = message("cgroup_entry", () => ({
  sets: repeated.message(1, () => cgSetEntry),
  controllers: repeated.message(2, () => cgControllerEntry),
}));
export type CgroupEntry = Infer<typeof cgroupEntry>;
