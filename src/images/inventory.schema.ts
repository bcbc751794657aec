/**
 * Image messages: plugins_entry, inventory_entry, lsmtype.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "./codec/schema.js";
import { taskKobjIdsEntry } from "./object-ids.schema.js";

export const lsmtype = enumeration("lsmtype", {
  NO_LSM: 0,
  SELINUX: 1,
  APPARMOR: 2,
});

export const pluginsEntry = message("plugins_entry", () => ({
  plugins: repeated.string(12),
}));
export type PluginsEntry = Infer<typeof pluginsEntry>;

export const inventoryEntry = message("inventory_entry", () => ({
  img_version: required.uint32(1),
  fdinfo_per_id: optional.bool(2),
  root_ids: optional.message(3, () => taskKobjIdsEntry),
  ns_per_id: optional.bool(4),
  root_cg_set: optional.uint32(5),
  lsmtype: optional.enum(6, () => lsmtype),
  dump_uptime: optional.uint64(8),
  pre_dump_mode: optional.uint32(9),
  tcp_close: optional.bool(10),
  network_lock_method: optional.uint32(11),
  plugins_entry: optional.message(12, () => pluginsEntry),
  dump_criu_run_id: optional.string(13),
  allow_uprobes: optional.bool(14),
}));
export type InventoryEntry = Infer<typeof inventoryEntry>;
