import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Placed, placingSteps } from "./placing.js";

/** Carries the steps out on a table of numbers, as the kernel would. */
function carryOut(arrived: ReadonlyMap<number, number>, table: readonly Placed[]): { highest: number } {
  const open = new Map<number, { id: number; closeOnExec: boolean }>([...arrived].map(([id, fd]) => [fd, { id, closeOnExec: true }]));
  let highest = 0;
  for (const step of placingSteps(arrived, table)) {
    if (step.kind === "close") assert.ok(open.delete(step.fd), `closes ${step.fd}, which is not open`);
    else if (step.kind === "flags") open.set(step.fd, { ...(open.get(step.fd) as Placed), closeOnExec: step.closeOnExec });
    else {
      const from = open.get(step.from);
      assert.ok(from !== undefined && step.from !== step.to, `duplicates ${step.from} to ${step.to}`);
      open.set(step.to, { id: from.id, closeOnExec: step.closeOnExec });
      highest = Math.max(highest, step.to);
    }
  }
  const wanted = table.map(({ fd, id, closeOnExec }) => [fd, { id, closeOnExec }] as const);
  assert.deepEqual(
    [...open].sort((a, b) => a[0] - b[0]),
    wanted.sort((a, b) => a[0] - b[0]),
  );
  return { highest };
}

const entry = (fd: number, id: number, closeOnExec = false): Placed => ({ fd, id, closeOnExec });

describe("placing descriptors", () => {
  test("what is in place stays, with its flags", () =>
    void carryOut(
      new Map([
        [1, 0],
        [2, 1],
      ]),
      [entry(0, 1), entry(1, 2, true)],
    ));
  test("two change places", () =>
    void carryOut(
      new Map([
        [1, 0],
        [2, 1],
      ]),
      [entry(0, 2), entry(1, 1)],
    ));
  test("a file that nobody wants is closed", () =>
    void carryOut(
      new Map([
        [1, 0],
        [2, 1],
      ]),
      [entry(1, 1)],
    ));
  test("a full table needs one spare number", () => {
    const count = 200;
    const arrived = new Map(Array.from({ length: count }, (_, i) => [i, i]));
    const { highest } = carryOut(
      arrived,
      Array.from({ length: count }, (_, i) => entry((i * 7 + 3) % count, i)),
    );
    assert.ok(highest <= count);
  });
  test("random tables", () => {
    let seed = 12345;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let round = 0; round < 2000; round++) {
      const files = 1 + random(12);
      const numbers = new Set<number>();
      const arrived = new Map<number, number>();
      for (let id = 0; id < files; id++) {
        let fd = random(20);
        while (numbers.has(fd)) fd = (fd + 1) % 20;
        numbers.add(fd);
        arrived.set(id, fd);
      }
      const table: Placed[] = [];
      for (let fd = 0; fd < 20; fd++) if (random(3) > 0) table.push(entry(fd, random(files), random(2) === 1));
      const { highest } = carryOut(arrived, table);
      assert.ok(highest <= Math.max(...arrived.values(), ...table.map((t) => t.fd), 0) + 1);
    }
  });
});
