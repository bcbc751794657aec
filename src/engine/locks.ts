/**
 * Locks on connections that dumps have left: which there are, and lifting them.
 */
import { TCP_STATES_WITH_PEER, inetConnections } from "../linux/sock-diag.js";
import { type Lock, locks, unlock } from "../resources/sockets/lock.js";

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
