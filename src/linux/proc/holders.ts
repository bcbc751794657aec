/**
 * Who else has something open: found by the links of all descriptors of the machine, which takes long where there are many.
 */
import type { ProcessName } from "../../errors.js";
import { readFdLinks, readPids } from "./list.js";
import { readComm } from "./read.js";

/** Processes with a descriptor whose link reads `link`, as in `socket:[4711]`; those that end meanwhile are left out. */
export function holdersOf(link: string): ProcessName[] {
  const found: ProcessName[] = [];
  for (const pid of readPids()) {
    try {
      if (readFdLinks(pid).includes(link)) found.push({ pid, comm: readComm(pid) });
    } catch {
      // It has ended, or closed a descriptor between two looks.
    }
  }
  return found;
}
