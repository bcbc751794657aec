import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";

import { ImageError } from "../../errors.js";
import { Program } from "../../target/program.js";
import { AREA } from "./area.js";
import type { MmEntry } from "./mm.schema.js";
import { addPolicies, checkPolicies, withoutPolicies } from "./policies.js";

const nodes = Buffer.alloc(128, 1);
const policy = { start: 0x1000n, end: 0x3000n, mode: 2, nodes };

function space(policies: MmEntry["policies"], status: number = AREA.ANON_PRIVATE): MmEntry {
  return { policies, vmas: [{ start: 0x1000n, end: 0x4000n, status }] } as unknown as MmEntry;
}

function calls(mm: MmEntry, parent?: MmEntry): (readonly unknown[])[] {
  const program = new Program();
  addPolicies(program, mm, parent);
  return program.entries.map((e) => [e.args[0], e.args[1], e.args[2]]);
}

describe("NUMA policies of mappings", () => {
  test("a policy of no pages or with another number of nodes is a bad image", () => {
    checkPolicies(space([policy]), "mm-1.img");
    for (const bad of [{ end: 0x1000n }, { start: 0x1001n }, { end: 0x3001n }, { nodes: Buffer.alloc(8) }])
      assert.throws(() => checkPolicies(space([{ ...policy, ...bad }]), "mm-1.img"), ImageError);
  });

  test("a child loses what only its parent has of private memory, and keeps what both have", () => {
    assert.deepEqual(calls(space([]), space([policy])), [[0x1000n, 0x2000n, 0]]);
    assert.deepEqual(calls(space([policy]), space([policy])), [[0x1000n, 0x2000n, 2]]);
    assert.deepEqual(calls(space([]), space([policy], AREA.ANON_SHARED)), []);
    assert.deepEqual(calls(space([policy])), [[0x1000n, 0x2000n, 2]]);
  });

  test("a process that is gone is not among those without policies", () => {
    const dead = 4194304; // above any pid_max
    assert.ok(!existsSync(`/proc/${dead}`));
    assert.equal(withoutPolicies([dead]).has(dead), false);
  });
});
