/**
 * Breakpoints that uprobes of others have put into the code of a process: no state of the process, so they are not saved.
 *
 * Found by    comparing the private pages of code with the file; what differs is a breakpoint, or a call in the place of a
 *             five-byte nop (Linux 6.18)
 * Made with   nothing: where a probe is active the kernel puts it into the code as soon as the file is mapped
 */
import { closeSync, openSync, readSync } from "node:fs";
import { readProcessMemory } from "../../linux/ptrace.js";
import type { Vma } from "../../linux/proc/maps.js";
import { areaKind } from "./area.js";
import { difference, intersection } from "./page-ranges.js";
import type { PageRange, PageRun } from "./page-runs.js";

const PAGE = 4096;
const INT3 = 0xcc;
const CALL = 0xe8;
const NOP5 = Buffer.from("0f1f440000", "hex");

/** The runs without pages of code that differ from the file in nothing but breakpoints. */
export function withoutBreakpoints(pid: number, runs: readonly PageRun[], vmas: readonly Vma[]): PageRun[] {
  const ours = vmas
    .filter((vma) => vma.exec && !vma.write && !vma.shared && areaKind(vma) === "file")
    .flatMap((vma) => probed(pid, runs, vma));
  return ours.length === 0 ? [...runs] : runs.flatMap((run) => difference([run], ours).map((rest) => ({ ...run, ...rest })));
}

/** Whether somebody has put probes into the code of a process. */
export function isProbed(vmas: readonly Vma[]): boolean {
  return vmas.some((vma) => areaKind(vma) === "uprobes");
}

function probed(pid: number, runs: readonly PageRun[], vma: Vma): PageRange[] {
  const changed = intersection(runs, [vma]);
  if (changed.length === 0) return [];
  const found: PageRange[] = [];
  const file = openSync(`/proc/${pid}/map_files/${vma.start.toString(16)}-${vma.end.toString(16)}`, "r");
  try {
    const memory = Buffer.alloc(PAGE);
    const original = Buffer.alloc(PAGE);
    for (const { start, end } of changed) {
      for (let at = start; at < end; at += BigInt(PAGE)) {
        original.fill(0);
        readSync(file, original, 0, PAGE, Number(vma.offset + (at - vma.start)));
        if (readProcessMemory(pid, at, memory) !== PAGE || !differsInBreakpointsOnly(memory, original)) continue;
        found.push({ start: at, end: at + BigInt(PAGE) });
      }
    }
  } finally {
    closeSync(file);
  }
  return found;
}

/** Whether code is that of the file but for breakpoints. */
export function differsInBreakpointsOnly(memory: Buffer, original: Buffer): boolean {
  for (let at = 0; at < memory.length; at += 1) {
    if (memory[at] === original[at] || memory[at] === INT3) continue;
    const isCall = memory[at] === CALL && original.subarray(at, at + NOP5.length).equals(NOP5);
    if (!isCall) return false;
    at += NOP5.length - 1;
  }
  return true;
}
