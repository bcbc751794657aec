/**
 * Holding back the segments of TCP connections between a dump and the restore (--network-lock).
 *
 * While the tree is only looked at, the lock belongs to us: should we die, the kernel takes it away, and the connection goes on.
 * It becomes lasting right before the tree dies. A lasting lock goes with the restore, or by `floe unlock`. With iptables
 * (--network-lock iptables) every lock is a lasting one: its rules belong to nobody.
 */
import { closeSync, readFileSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { allowSegments, dropSegments, droppedConnections } from "../../linux/iptables.js";
import type { Connection, TcpEnd } from "../../linux/nft-sets.js";
import { openFilter, silence, silencedBy, tablesNamed, unsilence, unsilenceAll, unsilenceSome } from "../../linux/nftables.js";
import type { DumpSession, Fd } from "../part.js";

/** Lasting locks, those of one dump together. */
const HELD = "floe-held-";
const ANY_HELD = /^floe-held-/;
const endText = ({ address, port }: TcpEnd) => `${address.toString("hex")}.${port}`;

/** What a lock goes by: the addresses in hexadecimal, and the ports. */
export function lockId(here: TcpEnd, there: TcpEnd): string {
  return `${endText(here)}-${endText(there)}`;
}

/** One owner for all locks of a dump; undefined where the kernel has no tables that belong to somebody (before 5.12). */
const owners = new WeakMap<DumpSession, Fd | undefined>();

function ownerOf(session: DumpSession): Fd | undefined {
  if (!owners.has(session)) {
    const fd = openFilter();
    owners.set(session, fd);
    session.takeBack(() => closeSync(fd));
  }
  return owners.get(session);
}

/** Lasting locks that were there before. To ask for each connection whether it has one would take 15 ms each. */
const before = new WeakMap<DumpSession, ReadonlySet<string>>();

function leftBehind(session: DumpSession): ReadonlySet<string> {
  const known = before.get(session) ?? new Set(locksThere().map(({ id }) => id));
  before.set(session, known);
  return known;
}

/** None where there can be none. */
function locksThere(): Lock[] {
  try {
    return locks();
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return [];
  }
}

/**
 * Holds back the segments of a connection until the tree is released; `isLasting`: and until the restore if it dies. `all`: those of
 * the dump, which are held back together.
 */
export function lock(
  { here, there }: Connection,
  { session, isLasting, all }: { session: DumpSession; isLasting: boolean; all: readonly Connection[] },
): void {
  const id = lockId(here, there);
  if (session.options.networkLock === "iptables") {
    // Rules belong to nobody: they stay should we die, and `floe unlock` finds them. Both ends in the tree stand still anyway.
    if (!isLasting) return;
    allowSegments({ here, there });
    session.takeBack(() => allowSegments({ here, there }));
    dropSegments({ here, there });
    return;
  }
  if (leftBehind(session).has(id)) unlock(id);
  const isHeld = holdAll(session, all);
  if (!isLasting) return;
  if (!isHeld) last([{ here, there }], session);
  else lastLater({ here, there }, session);
}

/** Connections whose lock outlives us if the tree dies. */
const lasting = new WeakMap<DumpSession, Connection[]>();

function lastLater(connection: Connection, session: DumpSession): void {
  const known = lasting.get(session);
  if (known !== undefined) {
    known.push(connection);
    return;
  }
  const connections = [connection];
  lasting.set(session, connections);
  session.beforeDeath(() => last(connections, session));
}

const held = new WeakMap<DumpSession, boolean>();

/** One lock for all connections of a dump, which belongs to us; false: this kernel has no tables that belong to somebody. */
function holdAll(session: DumpSession, all: readonly Connection[]): boolean {
  let isHeld = held.get(session);
  if (isHeld === undefined) {
    isHeld = tryHolding(session, all);
    held.set(session, isHeld);
  }
  return isHeld;
}

/** A name that nobody has had: to load node:crypto for it takes longer than the whole lock. */
const freshName = (): string => readFileSync("/proc/sys/kernel/random/uuid", "latin1").trim();

function tryHolding(session: DumpSession, all: readonly Connection[]): boolean {
  try {
    const owner = ownerOf(session);
    if (owner === undefined) throw new Error("internal error: no owner");
    silence(`floe-now-${freshName()}`, all, owner);
    return true;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return false;
  }
}

function last(connections: readonly Connection[], session: DumpSession): void {
  const table = HELD + freshName();
  silence(table, connections);
  session.takeBack(() => unsilence(table));
}

/** Holds connections back that are not there yet: until they are restored, or by `floe unlock`. */
export function lockBefore(connections: readonly Connection[], isByIptables: boolean): void {
  if (isByIptables) for (const { here, there } of connections) dropSegments({ here, there });
  else silence(HELD + freshName(), connections);
}

/** Lifts a lasting lock; false: there is none. */
export function unlock(id: string): boolean {
  try {
    if (lift(new Set([id])) > 0) return true;
  } catch (error) {
    // Without nftables it can be one of iptables only.
    if (!(error instanceof KernelError)) throw error;
  }
  return unlockRules(id);
}

/** Lifts lasting locks of nftables: how many there were. Tables of which nothing is left go, all at once. */
function lift(ids: ReadonlySet<string>): number {
  const emptied: string[] = [];
  let lifted = 0;
  for (const table of tablesNamed(ANY_HELD)) {
    const all = silencedBy(table);
    const some = all.filter(({ here, there }) => ids.has(lockId(here, there)));
    if (some.length === all.length) emptied.push(table);
    else unsilenceSome(table, some);
    lifted += some.length;
  }
  unsilenceAll(emptied);
  return lifted;
}

function unlockRules(id: string): boolean {
  const found = droppedConnections().find(({ here, there }) => lockId(here, there) === id);
  return found === undefined ? false : allowSegments(found);
}

/** Lifts the lasting locks of connections that are being restored, as the dump has made them. */
export function unlockAtRestore(ids: readonly string[], isByIptables: boolean): void {
  if (isByIptables) {
    for (const id of ids) unlockRules(id);
    return;
  }
  lift(new Set(ids));
}

/** A lasting lock. */
export interface Lock {
  readonly id: string;
  readonly here: TcpEnd;
  readonly there: TcpEnd;
}

/** The lasting locks of this network namespace. */
export function locks(): Lock[] {
  const held = tablesNamed(ANY_HELD).flatMap((table) => silencedBy(table));
  return [...held, ...droppedConnections()].map(({ here, there }) => ({ id: lockId(here, there), here, there }));
}
