/**
 * Where in a target's address space our code can lie, and where code of a dumper that was killed still lies.
 */
import type { Vma } from "../linux/proc/maps.js";
import { readProcessMemory } from "../linux/ptrace.js";
import { CODE_BYTES, REGION_MAGIC, isRegionPlace } from "./region.js";

/** An address range of a target. */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** What the mappings of a process say about code. */
export interface CodeRanges {
  /** Executable mappings in whose last bytes the cave may lie, best first: the vdso, then file mappings. */
  readonly code: readonly AddressRange[];
  /** Stub regions that a dumper left behind when it was killed. */
  readonly leftBehind: readonly AddressRange[];
}

/** What of a mapping matters here (as in linux/proc/maps). */
type Mapping = Pick<Vma, "start" | "end" | "read" | "write" | "exec" | "shared" | "inode" | "name">;

/** Goes through the mappings of process `pid`, ascending. */
export function codeRanges(pid: number, mappings: readonly Mapping[]): CodeRanges {
  const vdso: AddressRange[] = [];
  const files: AddressRange[] = [];
  const leftBehind: AddressRange[] = [];
  for (const mapping of mappings) {
    const last = leftBehind.at(-1);
    // Where memory may not be writable and executable, a region is its code and behind it, at once, its data.
    if (!mapping.exec && last?.end !== mapping.start) continue;
    const { start, end, read, write, exec, shared, inode, name } = mapping;
    if (!read || shared) continue;
    const range = { start, end };
    const isAnonymous = inode === 0n && name === "";
    if (!exec) {
      if (isAnonymous) leftBehind.push(range);
    } else if (name === "[vdso]") vdso.push(range);
    else if (inode !== 0n) files.push(range);
    else if (isAnonymous && (write || end - start === BigInt(CODE_BYTES)) && isRegion(pid, range)) leftBehind.push(range);
  }
  return { code: [...vdso, ...files], leftBehind };
}

/** A region is marked, or, if its dumper was killed before it came to that, empty and in its place. */
function isRegion(pid: number, range: AddressRange): boolean {
  const magic = Buffer.alloc(REGION_MAGIC.length);
  if (readProcessMemory(pid, range.start, magic) !== magic.length) return false;
  return magic.equals(REGION_MAGIC) || (isRegionPlace(range.start) && magic.every((byte) => byte === 0));
}
