import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Refusal } from "../../errors.js";
import { cpuid } from "../../target/x86_64/xstate.js";
import type { DumpSession, DumpTask, RestoreSession, RestoreTask } from "../part.js";
import type { CoreEntry } from "./core.schema.js";
import { refuseUncarried, vectorState } from "./vector-state.js";

const XSTATE_BV_OFFSET = 512;

describe("vector registers that cannot be carried", () => {
  function refusedFor(components: bigint): Refusal[] {
    const area = Buffer.alloc(XSTATE_BV_OFFSET + 64);
    area.writeBigUInt64LE(components, XSTATE_BV_OFFSET);
    const refused: Refusal[] = [];
    const session = { refuse: (problem: Refusal) => refused.push(problem) } as unknown as DumpSession;
    refuseUncarried(area, { session, task: { pid: 7, comm: "worker" } as DumpTask, tid: 8 });
    return refused;
  }

  it("are refused by a dump, by their numbers", () => {
    // The last of these is APX.
    const [refusal, ...others] = refusedFor(0x6_02ffn | (1n << 19n));
    assert.equal(refusal?.code, "VECTOR_STATE_NOT_CARRIED");
    assert.match(refusal?.message ?? "", /process 7 \(worker\): registers of thread 8: it uses components 0x80000 /);
    assert.equal(others.length, 0);
    assert.deepEqual(refusedFor(0x6_02ffn), []);
  });

  it("are refused by a restore where the processor has not what they are of", () => {
    const { eax } = cpuid(0xd, 0);
    // MPX, AVX-512, AMX: no processor has all of them.
    const missing = [3, 4, 5, 6, 7, 17, 18].find((bit) => ((eax >>> bit) & 1) === 0);
    assert.ok(missing !== undefined, "this processor has everything that any has ever had");
    const core = { thread_info: { fpregs: { xsave: { xstate_bv: 7n | (1n << BigInt(missing)) } } } } as unknown as CoreEntry;
    const task = { pid: 7, comm: "worker", threads: [{ tid: 7, core }] } as unknown as RestoreTask;
    const [problem] = vectorState.check?.(task, {} as RestoreSession) ?? [];
    assert.equal(problem?.code, "PROCESSOR_TOO_OLD");
    assert.match(problem?.message ?? "", new RegExp(`they hold components 0x${(1 << missing).toString(16)} `));
  });
});
