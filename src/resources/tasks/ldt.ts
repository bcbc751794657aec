/**
 * The local descriptor table of an address space, modify_ldt(2): segments of their own that few programs have (Wine, emulators).
 *
 * Read from   modify_ldt(2) inside the process
 * Made with   the same call, entry by entry, before registers that name a segment are set
 *
 * CRIU's images have no place for it; it travels in a field of task_core that other readers skip.
 */
import { kernelError } from "../../linux/errno.js";
import { SYS } from "../../linux/syscalls.js";
import { Program, type Result } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { TracedThread } from "../../target/thread.js";
import type { ThreadPart } from "../part.js";

/** modify_ldt(2): functions. */
const READ = 0;
const WRITE = 0x11;
/** asm/ldt.h: LDT_ENTRIES, LDT_ENTRY_SIZE. */
const ENTRIES = 8192;
export const ENTRY_BYTES = 8;
const WHOLE_BYTES = ENTRIES * ENTRY_BYTES;
const USER_DESC_BYTES = 16;

/** The whole table of a process, without the empty end. */
function readTable(leader: TracedThread): Buffer {
  const program = new Program();
  const table = program.buffer(WHOLE_BYTES);
  program.call(SYS.modify_ldt, READ, table, WHOLE_BYTES);
  run(leader, program);
  const bytes = table.bytes();
  let end = WHOLE_BYTES;
  while (end > 0 && bytes.readBigUInt64LE(end - ENTRY_BYTES) === 0n) end -= ENTRY_BYTES;
  return bytes.subarray(0, end);
}

/** An entry as the processor has it (Intel SDM, volume 3, 3.4.5) → struct user_desc (asm/ldt.h), as the kernel makes the former. */
export function toUserDesc(entry: Buffer, number: number): Buffer {
  const desc = Buffer.alloc(USER_DESC_BYTES);
  const [access, upper] = [entry.readUInt8(5), entry.readUInt8(6)];
  const isWritableOrReadable = (access >> 1) & 1;
  const [contents, isPresent] = [(access >> 2) & 3, access >> 7];
  const [isUsable, is32bit, isInPages] = [(upper >> 4) & 1, (upper >> 6) & 1, upper >> 7];
  desc.writeUInt32LE(number, 0);
  desc.writeUInt32LE((entry.readUInt16LE(2) | (entry.readUInt8(4) << 16) | (entry.readUInt8(7) << 24)) >>> 0, 4);
  desc.writeUInt32LE(entry.readUInt16LE(0) | ((upper & 15) << 16), 8);
  desc.writeUInt32LE(
    is32bit | (contents << 1) | ((isWritableOrReadable ^ 1) << 3) | (isInPages << 4) | ((isPresent ^ 1) << 5) | (isUsable << 6),
    12,
  );
  return desc;
}

export const segmentTable: ThreadPart = {
  name: "tasks/segment-table",
  rows: ["cpu.gpregs"],
  stage: "process",
  uniform: "now",
  dump({ isLeader, program, core, thread }) {
    if (!isLeader) return undefined;
    // Without a table it gives 0. Errors come as positive numbers of 32 bits.
    const got = program.call(SYS.modify_ldt, READ, program.buffer(ENTRY_BYTES), ENTRY_BYTES);
    return () => {
      if (core.tc !== undefined && got.value === BigInt(ENTRY_BYTES)) core.tc.segment_table = readTable(thread);
    };
  },
  restore({ isLeader, program, core }) {
    const table = isLeader ? Buffer.from(core.tc?.segment_table ?? []) : Buffer.alloc(0);
    const made: Result[] = [];
    for (let at = 0; at + ENTRY_BYTES <= Math.min(table.length, WHOLE_BYTES); at += ENTRY_BYTES) {
      const entry = table.subarray(at, at + ENTRY_BYTES);
      if (entry.readBigUInt64LE(0) === 0n) continue;
      const desc = program.bytes(toUserDesc(entry, at / ENTRY_BYTES));
      made.push(program.call(SYS.modify_ldt, WRITE, desc, USER_DESC_BYTES));
    }
    if (made.length === 0) return undefined;
    return () => {
      const failed = made.find(({ value }) => value !== 0n);
      if (failed !== undefined) throw kernelError("modify_ldt(0x11, desc, 16)", BigInt.asIntN(32, failed.value), "making a segment");
    };
  },
};
