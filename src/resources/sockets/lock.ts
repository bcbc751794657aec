/**
 * Holding back the segments of TCP connections between a dump and the restore (--network-lock).
 *
 * While the tree is only looked at, the lock belongs to us: should we die, the kernel takes it away, and the connection goes on.
 * It becomes lasting right before the tree dies. A lasting lock goes with the restore, or by `floe unlock`.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { type TcpEnd, openFilter, silence, tablesNamed, unsilence } from "../../linux/nftables.js";
import type { DumpSession, Fd } from "../part.js";

const PREFIX = "floe-";
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

/** Holds back the segments of a connection until the tree is released; `isLasting`: and until the restore if it dies. */
export function lock(here: TcpEnd, there: TcpEnd, { session, isLasting }: { session: DumpSession; isLasting: boolean }): void {
  const id = lockId(here, there);
  unlock(id);
  const owner = ownerOf(session);
  try {
    if (owner === undefined) throw new Error("internal error: no owner");
    silence(`${PREFIX}now-${id}`, { here, there }, owner);
    if (isLasting) session.beforeDeath(() => last(id, here, there, session));
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (!isLasting) return;
    // A kernel without owners of tables: the lock is a lasting one from the beginning.
    last(id, here, there, session);
  }
}

function last(id: string, here: TcpEnd, there: TcpEnd, session: DumpSession): void {
  silence(PREFIX + id, { here, there });
  session.takeBack(() => unlock(id));
}

/** Lifts a lasting lock; false: there is none. */
export function unlock(id: string): boolean {
  return unsilence(PREFIX + id);
}

/** A lasting lock. */
export interface Lock {
  readonly id: string;
  readonly here: TcpEnd;
  readonly there: TcpEnd;
}

const NAME = /^floe-([0-9a-f]{8}|[0-9a-f]{32})\.(\d+)-([0-9a-f]{8}|[0-9a-f]{32})\.(\d+)$/;

/** The lasting locks of this network namespace. */
export function locks(): Lock[] {
  return tablesNamed(NAME).map((name) => {
    const [, here = "", herePort, there = "", therePort] = NAME.exec(name) ?? [];
    return {
      id: name.slice(PREFIX.length),
      here: { address: Buffer.from(here, "hex"), port: Number(herePort) },
      there: { address: Buffer.from(there, "hex"), port: Number(therePort) },
    };
  });
}
