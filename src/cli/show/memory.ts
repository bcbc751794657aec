/**
 * Memory of a process by kind: how much is mapped, and how much the images hold of it.
 */
import type { DirectorySource } from "../../images/source.js";
import { AREA } from "../../resources/memory/area.js";
import type { MmEntry } from "../../resources/memory/mm.schema.js";
import { pagemapEntry, pagemapHead } from "../../resources/memory/pagemap.schema.js";
import type { VmaEntry } from "../../resources/memory/vma.schema.js";

const PAGE_BYTES = 4096;
const IN_PARENT = 1;

export interface MemoryTotals {
  readonly kind: string;
  readonly mappings: number;
  readonly mappedBytes: number;
}

/** Kinds in the order in which they are shown; the first that matches a mapping is its kind. */
const KINDS: readonly (readonly [kind: string, bit: number])[] = [
  ["kernel (vdso and the like)", AREA.VDSO | AREA.VVAR | AREA.VSYSCALL],
  ["System V shared memory", AREA.SYSV],
  ["asynchronous I/O", AREA.AIO],
  ["rings of packet sockets", AREA.SOCKET],
  ["memfd", AREA.MEMFD],
  ["heap", AREA.HEAP],
  ["stack", AREA.STACK],
  ["private anonymous", AREA.ANON_PRIVATE],
  ["shared anonymous", AREA.ANON_SHARED],
  ["private file", AREA.FILE_PRIVATE],
  ["shared file", AREA.FILE_SHARED],
];

export function memoryTotals(mm: MmEntry): MemoryTotals[] {
  const names = [...KINDS.map(([kind]) => kind), "other"];
  const byKind = new Map(names.map((kind) => [kind, [] as VmaEntry[]]));
  for (const vma of mm.vmas) byKind.get(kindOf(vma))?.push(vma);
  return [...byKind]
    .filter(([, vmas]) => vmas.length > 0)
    .map(([kind, vmas]) => ({
      kind,
      mappings: vmas.length,
      mappedBytes: vmas.reduce((sum, vma) => sum + Number(vma.end - vma.start), 0),
    }));
}

function kindOf({ status }: VmaEntry): string {
  return KINDS.find(([, bit]) => (status & bit) !== 0)?.[0] ?? "other";
}

/** Bytes of the process's own pages that the images hold; pages that a parent image holds do not count. */
export function savedBytes(source: DirectorySource, pid: number): number {
  const { records } = source.headed("PAGEMAP", [pid], { head: pagemapHead, record: pagemapEntry });
  const held = records.filter((run) => run.in_parent !== true && ((run.flags ?? 0) & IN_PARENT) === 0);
  return held.reduce((sum, run) => sum + PAGE_BYTES * Number(run.nr_pages ?? run.compat_nr_pages), 0);
}
