import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Refusal } from "../../errors.js";
import { CLONE } from "../../target/create.js";
import type { KernelIds } from "./kernel-ids.js";
import { randomFrom } from "./tree-history.js";
import { planTree } from "./tree-plan.js";
import { differences, emptyWorld, simulate } from "./tree-simulate.js";
import type { TreePlan, TreeTask } from "./tree-steps.js";

const ROOT = 100;

interface History {
  readonly tasks: TreeTask[];
  readonly objects: Map<number, KernelIds>;
}

/** Tasks of one session that clone children and siblings, sharing or not, and unshare, at random. */
function history(random: () => number, actions: number): History {
  let next = 1;
  const fresh = () => next++;
  const objects = new Map<number, KernelIds>([[ROOT, { vm: fresh(), files: fresh(), fs: fresh(), sighand: fresh() }]]);
  const parents = new Map<number, number>([[ROOT, 0]]);
  const pick = () => [...objects.keys()][Math.floor(random() * objects.size)] as number;
  for (let i = 0; i < actions; i += 1) {
    const by = pick();
    const own = objects.get(by) as KernelIds;
    if (random() < 0.25) {
      own[random() < 0.5 ? "files" : "fs"] = fresh();
      continue;
    }
    const asSibling = by !== ROOT && random() < 0.3;
    const vm = random() < 0.1 ? own.vm : fresh();
    const sighand = vm === own.vm && random() < 0.5 ? own.sighand : fresh();
    const pid = ROOT + parents.size;
    objects.set(pid, { vm, sighand, files: random() < 0.4 ? own.files : fresh(), fs: random() < 0.4 ? own.fs : fresh() });
    parents.set(pid, asSibling ? (parents.get(by) as number) : by);
  }
  const tasks = [...parents].map(([pid, ppid]) => ({ pid, ppid, pgid: ROOT, sid: ROOT, state: "alive", threads: [pid] }) as const);
  return { tasks, objects };
}

/** What tasks share after a plan has been carried out. */
function carriedOut(plan: TreePlan, tasks: readonly TreeTask[]): Map<number, KernelIds> {
  let next = 1;
  const has = new Map<number, KernelIds>();
  const fresh = (): KernelIds => ({ vm: next++, files: next++, fs: next++, sighand: next++ });
  for (const step of plan.build.flat()) {
    if (step.do === "unshare") {
      const own = has.get(step.pid) as KernelIds;
      if (step.what & CLONE.FILES) own.files = next++;
      if (step.what & CLONE.FS) own.fs = next++;
    }
    if (step.do !== "create") continue;
    const by = has.get(step.by);
    const flags = plan.shares.get(step.pid) ?? 0n;
    const own = fresh();
    if (flags & CLONE.VM) own.vm = by?.vm ?? 0;
    if (flags & CLONE.FILES) own.files = by?.files ?? 0;
    if (flags & CLONE.FS) own.fs = by?.fs ?? 0;
    if (flags & CLONE.SIGHAND) own.sighand = by?.sighand ?? 0;
    assert.ok((flags & CLONE.SIGHAND) === 0n || flags & CLONE.VM, "clone(2): handlers only with memory");
    has.set(step.pid, own);
  }
  return new Map(tasks.map(({ pid }) => [pid, has.get(pid) as KernelIds]));
}

/** Which pairs share what. */
function pairs(objects: ReadonlyMap<number, KernelIds>): string[] {
  const list = [...objects];
  return list.flatMap(([a, left], i) =>
    list
      .slice(i + 1)
      .flatMap(([b, right]) =>
        (["vm", "files", "fs", "sighand"] as const).filter((k) => left[k] === right[k]).map((k) => `${a} ${b} ${k}`),
      ),
  );
}

describe("planSharing", () => {
  it("gives what random histories led to, or refuses", () => {
    let refused = 0;
    const count = 2000;
    for (let seed = 1; seed <= count; seed += 1) {
      const { tasks, objects } = history(randomFrom(seed), 3 + (seed % 12));
      let plan: TreePlan;
      try {
        plan = planTree(tasks, { objects });
      } catch (error) {
        assert.ok(error instanceof Refusal && /SHARED_APART/.test(error.code), String(error));
        refused += 1;
        continue;
      }
      const model = emptyWorld(tasks, plan.inherited);
      simulate(model, plan.build, plan.inherited);
      assert.deepEqual(differences(model, tasks, true), [], `seed ${seed}`);
      assert.deepEqual(pairs(carriedOut(plan, tasks)), pairs(objects), `seed ${seed}`);
    }
    assert.ok(refused <= count / 200, `${refused} of ${count} were refused`);
  });

  it("refuses tables that would have to pass through one process at once", () => {
    // Two children of the one in between have a table of the root's, and one of its other child's.
    const parents = new Map([[ROOT, 0], ...[101, 102].map((pid) => [pid, ROOT] as const), ...[103, 104].map((pid) => [pid, 101] as const)]);
    const files = new Map(
      [
        [ROOT, 1],
        [101, 3],
        [102, 2],
        [103, 1],
        [104, 2],
      ].map(([pid = 0, table = 0]) => [pid, table]),
    );
    const tasks = [...parents].map(([pid, ppid]) => ({ pid, ppid, pgid: ROOT, sid: ROOT, state: "alive", threads: [pid] }) as const);
    const objects = new Map([...files].map(([pid, table]) => [pid, { vm: pid, fs: pid, sighand: pid, files: table }]));
    assert.throws(
      () => planTree(tasks, { objects }),
      (error: unknown) =>
        error instanceof Refusal && error.code === "TABLE_SHARED_APART" && /its descriptor table: it is shared with/.test(error.message),
    );
  });
});
