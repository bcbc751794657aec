/**
 * Where in a target's address space our code can lie, and where code of a dumper that was killed still lies.
 */
import { readProcessMemory } from "../linux/ptrace.js";
import { CODE_BYTES, REGION_MAGIC, isRegionPlace } from "./region.js";

/** An address range of a target. */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** What a look at /proc/PID/maps says about code. */
export interface CodeRanges {
  /** Executable mappings in whose last bytes the cave may lie, best first: the vdso, then file mappings. */
  readonly code: readonly AddressRange[];
  /** Stub regions that a dumper left behind when it was killed. */
  readonly leftBehind: readonly AddressRange[];
}

const LINE = /^([0-9a-f]+)-([0-9a-f]+) r(.)(.)p [0-9a-f]+ \S+ (\d+) *(.*)$/gm;

/** Takes the text of /proc/PID/maps apart. */
export function codeRanges(pid: number, maps: string): CodeRanges {
  const vdso: AddressRange[] = [];
  const files: AddressRange[] = [];
  const leftBehind: AddressRange[] = [];
  for (const [, start, end, writable, executable, inode, name] of maps.matchAll(LINE)) {
    const range = { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) };
    const isAnonymous = inode === "0" && name === "";
    // Where memory may not be writable and executable, a region is its code and behind it, at once, its data.
    if (executable !== "x") {
      const code = leftBehind.at(-1);
      if (isAnonymous && code?.end === range.start) leftBehind.push(range);
    } else if (name === "[vdso]") vdso.push(range);
    else if (inode !== "0") files.push(range);
    else if (isAnonymous && (writable === "w" || range.end - range.start === BigInt(CODE_BYTES)) && isRegion(pid, range))
      leftBehind.push(range);
  }
  return { code: [...vdso, ...files], leftBehind };
}

/** A region is marked, or, if its dumper was killed before it came to that, empty and in its place. */
function isRegion(pid: number, range: AddressRange): boolean {
  const magic = Buffer.alloc(REGION_MAGIC.length);
  if (readProcessMemory(pid, range.start, magic) !== magic.length) return false;
  return magic.equals(REGION_MAGIC) || (isRegionPlace(range.start) && magic.every((byte) => byte === 0));
}
