/**
 * Locks on connections that dumps have left: which there are, lifting them, and making them where a tree is going to be.
 */
import { KernelError, UsageError } from "../errors.js";
import { DirectorySource } from "../images/source.js";
import { IptablesError } from "../linux/iptables.js";
import { TCP_STATES_WITH_PEER, inetConnections } from "../linux/sock-diag.js";
import { fileEntry } from "../resources/files/table.schema.js";
import { type Lock, lockBefore, lockId, locks, unlock } from "../resources/sockets/lock.js";
import { connectionsOutward, isByIptables } from "../resources/sockets/tcp-connection.js";
import { checkInventory } from "./restore-load.js";

/** A lock, and whether the socket that it silences is alive: then nobody is going to lift it. */
export interface FoundLock extends Lock {
  readonly isStale: boolean;
}

export function findLocks(): FoundLock[] {
  const found = locks();
  if (found.length === 0) return [];
  const alive = new Set(inetConnections(TCP_STATES_WITH_PEER));
  return found.map((lock) => ({ ...lock, isStale: alive.has(lock.id) }));
}

/** Lifts the lock `id`; false: there is none. */
export function liftLock(id: string): boolean {
  return unlock(id);
}

/**
 * Holds back the connections in the images, as a dump does on its machine: on one that takes the address over before the restore, whose kernel
 * would answer a segment for a connection that it does not know by a reset. The restore lifts the locks. Returns how many are new.
 */
export function lockConnections(directory: string): number {
  const images = new DirectorySource(directory);
  try {
    checkInventory(images);
    const entries = images.records("FILES", [], fileEntry).flatMap(({ value }) => (value.isk === undefined ? [] : [value.isk]));
    const connections = connectionsOutward(entries);
    return holdNew(connections, isByIptables({ images }));
  } finally {
    images.close();
  }
}

function holdNew(connections: readonly { here: Lock["here"]; there: Lock["there"] }[], byIptables: boolean): number {
  try {
    const held = new Set(locks().map(({ id }) => id));
    const free = connections.filter(({ here, there }) => !held.has(lockId(here, there)));
    if (free.length > 0) lockBefore(free, byIptables);
    return free.length;
  } catch (error) {
    if (!(error instanceof KernelError || error instanceof IptablesError)) throw error;
    throw new UsageError({
      code: "NETWORK_LOCK_FAILED",
      message: `Cannot hold the connections back: ${error.message}`,
      remedy: ["Run Floe with CAP_NET_ADMIN on a kernel with nftables", "Give this machine the address when the restore is done"],
    });
  }
}
