/**
 * What of the vector registers can be carried at all, and the right of a process to use the large ones (AMX).
 *
 * Read from   the header of the XSAVE area; arch_prctl(ARCH_GET_XCOMP_PERM) inside the process
 * Made with   arch_prctl(ARCH_REQ_XCOMP_PERM) inside the process
 * Refused     components in use that images have no place for: VECTOR_STATE_NOT_CARRIED; ones that the processor of the
 *             restore lacks: PROCESSOR_TOO_OLD
 */
import { Refusal } from "../../errors.js";
import { SYS } from "../../linux/syscalls.js";
import { cpuid } from "../../target/x86_64/xstate.js";
import { useTile } from "../../target/x86_64/tiles.js";
import type { CoreEntry } from "./core.schema.js";
import type { DumpSession, DumpTask, ThreadPart } from "../part.js";

/** asm/prctl.h */
const ARCH_GET_XCOMP_PERM = 0x1022;
const ARCH_REQ_XCOMP_PERM = 0x1023;
/** Number of the tile data; the only component that has to be asked for. */
const TILE_DATA = 18;
const TILE_CONFIG = 17;
/** x87, SSE, AVX, MPX (two), AVX-512 (three), PKRU, AMX (two). */
const CARRIED = 0x6_02ffn;
/** Leaf of cpuid that tells the components which the processor can save. */
const XSAVE_LEAF = 0xd;
const XSTATE_BV_OFFSET = 512;

/** Refuses a thread whose XSAVE area has more in it than the image can hold. */
export function refuseUncarried(area: Buffer, of: { session: DumpSession; task: DumpTask; tid: number }): void {
  if (area.length <= XSTATE_BV_OFFSET) return;
  const beyond = area.readBigUInt64LE(XSTATE_BV_OFFSET) & ~CARRIED;
  if (beyond === 0n) return;
  of.session.refuse(
    new Refusal({
      code: "VECTOR_STATE_NOT_CARRIED",
      process: { pid: of.task.pid, comm: of.task.comm },
      resource: `registers of thread ${of.tid}`,
      because: `it uses components 0x${beyond.toString(16)} of the extended state, which images cannot hold`,
      remedy: ["Dump it while it is not in the middle of such a computation"],
    }),
  );
}

/** Components that hold something in a saved thread. */
function usedBy(core: CoreEntry): bigint {
  const xsave = core.thread_info?.fpregs.xsave;
  const config = xsave?.tile_config === undefined ? 0n : 1n << BigInt(TILE_CONFIG);
  const data = xsave?.tile_data === undefined ? 0n : 1n << BigInt(TILE_DATA);
  return (xsave?.xstate_bv ?? 0n) | config | data;
}

/** Room for tile data in threads that have some; the registers themselves are set last of all. */
export const tileRoom: ThreadPart = {
  name: "tasks/tile-room",
  rows: ["cpu.fpregs"],
  stage: "thread",
  restore({ core, thread }) {
    return core.thread_info?.fpregs.xsave?.tile_data === undefined ? undefined : () => useTile(thread);
  },
};

export const vectorState: ThreadPart = {
  name: "tasks/vector-state",
  rows: ["cpu.fpregs"],
  stage: "process",
  uniform: "later",

  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const memory = program.buffer(8);
    const got = program.call(SYS.arch_prctl, ARCH_GET_XCOMP_PERM, memory);
    return () => {
      const permitted = memory.bytes().readBigUInt64LE(0);
      if (core.tc !== undefined && got.errno === 0 && (permitted >> BigInt(TILE_DATA)) & 1n) core.tc.xcomp_permissions = permitted;
    };
  },

  check(task) {
    const { eax, edx } = cpuid(XSAVE_LEAF, 0);
    const here = (BigInt(edx) << 32n) | BigInt(eax);
    const used = task.threads.reduce((bits, { core }) => bits | usedBy(core), 0n);
    const missing = used & CARRIED & ~here;
    if (missing === 0n) return [];
    return [
      new Refusal(
        {
          code: "PROCESSOR_TOO_OLD",
          process: { pid: task.pid, comm: task.comm },
          resource: "its registers",
          because: `they hold components 0x${missing.toString(16)} of the extended state, which this processor does not have`,
          remedy: ["Restore on a processor with the same vector instructions"],
        },
        "restore",
      ),
    ];
  },

  restore({ isLeader, program, core }) {
    if (!isLeader || core.tc?.xcomp_permissions === undefined) return undefined;
    program.call(SYS.arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA).must("asking for the right to use AMX tiles");
    return undefined;
  },
};
