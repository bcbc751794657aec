/**
 * AMX: a thread has room for tile data only once it has used a tile instruction, which makes the kernel give it a larger area.
 * Until then PTRACE_SETREGSET with tile data in it is EINVAL. Measured on a processor with AMX: `tilerelease` alone is not enough.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ } from "../../linux/memory.js";
import { SYS } from "../../linux/syscalls.js";
import { Program } from "../program.js";
import { run, runAll } from "../run.js";
import type { TracedThread } from "../thread.js";

const PAGE = 4096;
const CONFIG_OFFSET = 64;
/** lea rdi, [rip + config]; ldtilecfg [rdi]; tilezero tmm0; tilerelease; jmp through the 8 bytes behind. */
const USE_TILE = Buffer.from("488d3d39000000" + "c4e2784907" + "c4e27b49c0" + "c4e27849c0" + "ff2500000000", "hex");

/** The page of code that uses a tile and goes on at `next`. */
export function tileCode(next: bigint): Buffer {
  const code = Buffer.alloc(CONFIG_OFFSET + 64);
  USE_TILE.copy(code);
  code.writeBigUInt64LE(next, USE_TILE.length);
  // Palette 1, tile 0 of one row of 16 bytes.
  code.writeUInt8(1, CONFIG_OFFSET);
  code.writeUInt16LE(16, CONFIG_OFFSET + 16);
  code.writeUInt8(1, CONFIG_OFFSET + 48);
  return code;
}

/** Makes a thread use a tile, in memory that is gone afterwards; its process must have the right to (ARCH_REQ_XCOMP_PERM). */
export function useTile(thread: TracedThread): void {
  const { slot } = thread;
  if (slot === undefined) throw new Error(`internal error: thread ${thread.tid} has no stub`);
  const mapping = new Program();
  const page = mapping
    .call(SYS.mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    .must("making room for a tile instruction");
  run(thread, mapping);
  // Through this file also what is not writable can be written.
  const memory = openSync(`/proc/${thread.task.pid}/mem`, "r+");
  try {
    const code = tileCode(slot.code);
    writeSync(memory, code, 0, code.length, Number(page.value));
  } finally {
    closeSync(memory);
  }
  const leaving = new Program();
  leaving.call(SYS.munmap, page.value, PAGE).must("removing a tile instruction");
  runAll([{ thread, program: leaving, entry: page.value }]);
}
