/**
 * Who else has something open: found by the links of all descriptors of the machine, which takes long where there are many.
 */
import type { ProcessName } from "../../errors.js";
import { readlinkSync } from "../named-files.js";
import { readFdNumbers, readPids } from "./list.js";
import { readComm } from "./read.js";

export interface Holder extends ProcessName {
  /** Its descriptors of that link. */
  readonly fds: readonly number[];
}

/** Most processes that {@link nameHolders} names. */
const MOST_NAMES = 5;

/** Processes by the links that they have open and that begin with `kind`, as in `socket:[`; those that end meanwhile are left out. */
export function findHolders(kind: string): ReadonlyMap<string, readonly Holder[]> {
  const found = new Map<string, Holder[]>();
  for (const pid of readPids()) {
    try {
      const comm = readComm(pid);
      for (const [link, fds] of linksOf(pid, kind)) found.set(link, [...(found.get(link) ?? []), { pid, comm, fds }]);
    } catch {
      // It has ended, or closed a descriptor between two looks.
    }
  }
  return found;
}

function linksOf(pid: number, kind: string): Map<string, number[]> {
  const links = new Map<string, number[]>();
  for (const fd of readFdNumbers(pid)) {
    const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
    if (link.startsWith(kind)) links.set(link, [...(links.get(link) ?? []), fd]);
  }
  return links;
}

/** As in `12 (cat), 13 (sh)`; undefined: there is nobody. */
export function nameHolders(holders: readonly ProcessName[]): string | undefined {
  if (holders.length === 0) return undefined;
  const names = holders.slice(0, MOST_NAMES).map(({ pid, comm }) => `${pid} (${comm})`);
  return names.join(", ") + (holders.length > MOST_NAMES ? ` and ${holders.length - MOST_NAMES} more` : "");
}
