/**
 * The inventory: the image that says what the others are.
 */
import { inventoryEntry } from "../images/inventory.schema.js";
import type { DumpSink } from "../images/sink.js";
import { randomUuid } from "../linux/random.js";
import { activeLsm } from "../resources/security/lsm.js";
import { namespaceIds } from "../resources/namespaces/ids.js";
import { ROOT_CGROUP_SET } from "./collect.js";

const IMAGE_VERSION = 2;

/** criu_network_lock_method. */
const BY_IPTABLES = 1;

export function writeInventory(
  sink: DumpSink,
  marks: { tcpClose?: boolean; allowUprobes?: boolean | undefined; networkLock?: string } = {},
): void {
  const root_ids = { vm_id: 1, files_id: 1, fs_id: 1, sighand_id: 1, ...namespaceIds("self") };
  const run = randomUuid();
  sink.append("INVENTORY", [], {
    type: inventoryEntry,
    value: {
      img_version: IMAGE_VERSION,
      fdinfo_per_id: true,
      root_ids,
      ns_per_id: true,
      root_cg_set: ROOT_CGROUP_SET,
      lsmtype: activeLsm(),
      network_lock_method: marks.networkLock === "iptables" ? BY_IPTABLES : 0,
      plugins_entry: { plugins: [] },
      dump_criu_run_id: run,
      ...(marks.tcpClose === true ? { tcp_close: true } : {}),
      ...(marks.allowUprobes === true ? { allow_uprobes: true } : {}),
    },
  });
}
