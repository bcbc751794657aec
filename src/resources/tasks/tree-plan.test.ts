import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ImageError, Problems, Refusal } from "../../errors.js";
import { randomFrom, randomHistory } from "./tree-history.js";
import type { TreeModel } from "./tree-model.js";
import { planTree } from "./tree-plan.js";
import { emptyWorld, simulate } from "./tree-simulate.js";
import type { Round, TaskState, TreePlan, TreeStep, TreeTask } from "./tree-steps.js";

/** pid, parent, group, session, as ps(1) lists them. */
function task(pid: number, ppid: number, pgid: number, sid: number, state: TaskState = "alive"): TreeTask {
  return { pid, ppid, pgid, sid, state, threads: [pid], comm: `t${pid}` };
}

function all(rounds: readonly Round[]): TreeStep[] {
  return rounds.flat();
}

function created(plan: TreePlan, pid: number): TreeStep & { do: "create" } {
  const step = all(plan.build).find((one) => one.do === "create" && one.pid === pid);
  assert.ok(step?.do === "create", `process ${pid} is not created`);
  return step;
}

function position(plan: TreePlan, match: Partial<Record<string, unknown>>): number {
  const found = all(plan.build).findIndex((step) =>
    Object.entries(match).every(([name, value]) => (step as Record<string, unknown>)[name] === value),
  );
  assert.notEqual(found, -1, `no step ${JSON.stringify(match)}`);
  return found;
}

function kinds(plan: TreePlan): string[] {
  return plan.temporary.map((one) => one.kind).sort();
}

/** The tasks of a model as they must be compared with those wanted. */
function seen(model: TreeModel): string[] {
  return [...model.tasks.values()].map((t) => `${t.pid} ${t.ppid} ${t.pgid} ${t.sid} ${t.zombie}${t.subreaper ? " subreaper" : ""}`).sort();
}

function wanted(tasks: readonly TreeTask[]): string[] {
  const pids = new Set(tasks.map((t) => t.pid));
  return tasks.map((t) => `${t.pid} ${pids.has(t.ppid) ? t.ppid : 0} ${t.pgid} ${t.sid} ${t.state === "zombie"}`).sort();
}

/** Plans, carries the plan out with the actors of each round in a random order, and compares what came of it. */
function planned(tasks: readonly TreeTask[], shellJob = false, random = randomFrom(1)): TreePlan {
  const plan = planTree(tasks, { shellJob });
  const model = emptyWorld(tasks, plan.inherited);
  const shuffle = (actors: number[]): number[] => {
    for (let i = actors.length - 1; i > 0; i -= 1) {
      const j = Math.floor(random() * (i + 1));
      [actors[i], actors[j]] = [actors[j] as number, actors[i] as number];
    }
    return actors;
  };
  simulate(model, plan.build, plan.inherited, shuffle);
  assert.deepEqual(seen(model), wanted(tasks));
  simulate(model, plan.finish, plan.inherited, shuffle);
  const helpers = new Set(tasks.filter((t) => t.state === "helper").map((t) => t.pid));
  assert.deepEqual(seen(model), wanted(tasks.filter((t) => !helpers.has(t.pid) && !helpers.has(t.ppid))));
  return plan;
}

describe("planTree: ordinary trees", () => {
  it("makes a single process", () => {
    const plan = planned([task(10, 0, 10, 10)]);
    assert.deepEqual(
      all(plan.build).map((step) => step.do),
      ["create", "memory", "setsid"],
    );
    assert.equal(plan.memoryFrom.get(10), undefined);
    assert.deepEqual(plan.temporary, []);
  });

  it("makes the children of one parent in one round, one after the other", () => {
    const children = Array.from({ length: 499 }, (_, i) => task(1001 + i, 1000, 1000, 1000));
    const plan = planned([task(1000, 0, 1000, 1000), ...children]);
    assert.equal(plan.build.length, 3);
    assert.deepEqual(
      plan.build[1]?.map((step) => step.do),
      ["memory", "setsid", ...children.map(() => "create" as const)],
    );
  });

  it("needs a round a generation for a broad tree of sessions and groups", () => {
    const tasks = [task(1000, 0, 1000, 1000)];
    for (let i = 1; i < 500; i += 1) {
      const pid = 1000 + i;
      tasks.push(task(pid, 1000 + ((i - 1) >> 2), pid, i % 3 === 0 ? pid : 1000));
      const last = tasks.at(-1) as TreeTask;
      const parent = tasks[(i - 1) >> 2] as TreeTask;
      if (last.sid !== pid) tasks[i] = { ...last, sid: parent.sid };
    }
    assert.ok(planned(tasks).build.length <= 8);
  });

  it("fills a parent's memory before its children are cloned", () => {
    const plan = planned([task(10, 0, 10, 10), task(11, 10, 10, 10), task(12, 11, 10, 10)]);
    assert.ok(position(plan, { do: "memory", pid: 11 }) < position(plan, { do: "create", pid: 12 }));
    assert.equal(plan.memoryFrom.get(11), 10);
    assert.equal(plan.memoryFrom.get(12), 11);
  });

  it("creates children before or after setsid() as their session demands", () => {
    const plan = planned([task(10, 0, 10, 10), task(11, 10, 11, 11), task(12, 11, 10, 10), task(13, 11, 11, 11)]);
    const setsid = position(plan, { do: "setsid", pid: 11 });
    assert.ok(position(plan, { do: "create", pid: 12 }) < setsid);
    assert.ok(setsid < position(plan, { do: "create", pid: 13 }));
    assert.equal(created(plan, 12).by, 11);
    assert.deepEqual(plan.temporary, []);
  });

  it("joins a group after its leader has made it", () => {
    const plan = planned([task(10, 0, 10, 10), task(11, 10, 12, 10), task(12, 10, 12, 10)]);
    assert.ok(position(plan, { do: "setpgid", pid: 12 }) < position(plan, { do: "setpgid", pid: 11 }));
  });

  it("lets zombies die last, in their groups, and names who got SIGCHLD", () => {
    const plan = planned([task(10, 0, 10, 10), task(11, 10, 11, 10, "zombie"), task(12, 10, 11, 10), task(13, 12, 11, 10, "zombie")]);
    assert.ok(plan.build.at(-1)?.every((step) => step.do === "exit"));
    assert.deepEqual([...plan.signalled].sort(), [10, 12]);
    assert.ok(!all(plan.build).some((step) => step.do === "memory" && step.pid === 11));
  });
});

describe("planTree: shell jobs", () => {
  it("leaves the root in the coordinator's session and group", () => {
    const plan = planned([task(20, 5, 15, 5), task(21, 20, 15, 5)], true);
    assert.deepEqual(plan.inherited, { sid: 5, pgid: 15 });
    assert.ok(!all(plan.build).some((step) => step.do === "setsid" || step.do === "setpgid"));
  });

  it("makes the group that the root leads", () => {
    const plan = planned([task(20, 5, 20, 5), task(21, 20, 20, 5)], true);
    assert.deepEqual(plan.inherited, { sid: 5, pgid: -1 });
    position(plan, { do: "setpgid", pid: 20, pgid: 20 });
  });

  it("lets children stay in the outer group that the root left", () => {
    assert.deepEqual(planned([task(20, 5, 20, 5), task(21, 20, 5, 5)], true).inherited, { sid: 5, pgid: 5 });
  });

  it("inherits nothing when the root leads its session", () => {
    assert.equal(planned([task(20, 5, 20, 20)], true).inherited, undefined);
  });
});

describe("planTree: what dead processes left behind", () => {
  it("makes the leader of a dead leader's session, which creates the members as siblings", () => {
    const plan = planned([task(10, 0, 10, 10), task(12, 10, 30, 30), task(13, 10, 30, 30)]);
    assert.deepEqual(plan.temporary, [{ pid: 30, kind: "session leader" }]);
    assert.deepEqual(created(plan, 12), { do: "create", pid: 12, by: 30, asSibling: true });
    assert.deepEqual(plan.signalled, [10]);
  });

  it("makes the leader of a dead leader's group", () => {
    const plan = planned([task(10, 0, 10, 10), task(12, 10, 30, 10), task(13, 12, 30, 10, "zombie")]);
    assert.deepEqual(plan.temporary, [{ pid: 30, kind: "group leader" }]);
  });

  it("hands an orphan up to the root by the death of a carrier", () => {
    const tree = [task(10, 0, 10, 10), task(11, 10, 10, 10), task(20, 11, 20, 20), task(30, 10, 20, 20)];
    const plan = planned(tree);
    assert.deepEqual(kinds(plan), ["carrier"]);
    assert.equal(all(plan.build).filter((step) => step.do === "subreaper").length, 2);
  });

  it("needs no subreaper flag where the root is init", () => {
    const plan = planned([task(1, 0, 1, 1), task(11, 1, 1, 1), task(20, 11, 20, 20), task(30, 1, 20, 20)]);
    assert.deepEqual(kinds(plan), ["carrier"]);
    assert.ok(!all(plan.build).some((step) => step.do === "subreaper"));
  });

  it("hands several orphans to one subreaper by one carrier", () => {
    const tree = [task(10, 0, 10, 10), task(11, 10, 10, 10), task(20, 11, 20, 20)];
    for (let pid = 30; pid < 40; pid += 1) tree.push(task(pid, 10, 20, 20));
    assert.deepEqual(kinds(planned(tree)), ["carrier"]);
  });

  it("lets a leader be born in the session that its child is in", () => {
    const tree = [task(10, 0, 10, 10), task(20, 10, 20, 20), task(30, 10, 30, 30), task(21, 20, 30, 30)];
    const plan = planned(tree);
    assert.equal(created(plan, 20).by, 30);
    assert.deepEqual(plan.temporary, []);
  });

  it("gives birth to a leader below its later sibling where only that explains a session", () => {
    // 20 cannot have been in both sessions before its own, so a leader was born below it, and orphaned.
    const leaders = [task(10, 0, 10, 10), task(20, 10, 20, 20), task(30, 10, 30, 30), task(40, 10, 40, 40)];
    const plan = planned([...leaders, task(21, 20, 30, 30), task(22, 20, 40, 40)]);
    assert.deepEqual(kinds(plan), ["carrier", "carrier"]);
  });

  it("lets a leader leave the group it made when somebody is in it", () => {
    const plan = planned([task(10, 0, 10, 10), task(11, 10, 10, 10), task(12, 11, 11, 10)]);
    assert.deepEqual(plan.temporary, []);
    assert.ok(position(plan, { do: "setpgid", pid: 12 }) < position(plan, { do: "setpgid", pid: 11, pgid: 10 }));
  });

  it("swaps leaders between groups with a holder", () => {
    const plan = planned([task(10, 0, 10, 10), task(14, 10, 15, 10), task(15, 10, 16, 10), task(16, 10, 14, 10)]);
    assert.deepEqual(kinds(plan), ["holder"]);
  });

  it("keeps a zombie that leads a session", () => {
    const plan = planned([task(10, 0, 10, 10), task(20, 10, 20, 20, "zombie"), task(21, 10, 20, 20)]);
    assert.deepEqual(plan.temporary, []);
  });

  it("ends helpers, and reaps zombies below them, only when finishing", () => {
    const plan = planned([task(10, 0, 10, 10), task(20, 10, 10, 10, "helper"), task(21, 20, 10, 10, "zombie")]);
    assert.deepEqual(
      all(plan.finish).map((step) => `${step.do} ${step.pid}`),
      ["reap 21", "exit 20", "reap 20"],
    );
    assert.deepEqual(plan.signalled, [10]);
  });

  it("gives carriers numbers that nothing has", () => {
    const tree = [task(10, 0, 10, 10), task(11, 10, 10, 10), task(20, 11, 20, 20), task(32767, 10, 20, 20)];
    const plan = planTree(tree, { isTaken: (pid) => pid > 32760 });
    assert.equal(plan.temporary[0]?.pid, 32760);
    assert.throws(() => planTree(tree, { isTaken: () => true }), { name: "Refusal", code: "NO_FREE_PIDS" });
  });
});

describe("planTree: trees that cannot be", () => {
  const root = task(10, 0, 10, 10);
  const bad: readonly [string, readonly TreeTask[], RegExp][] = [
    ["no process", [], /no process/],
    ["a missing parent", [root, task(11, 99, 10, 10)], /parent 99 of process 11 is missing/],
    ["two tasks of one pid", [root, task(10, 10, 10, 10)], /more than once/],
    ["a leader in another group", [root, task(11, 10, 10, 11)], /leads its session, but is in group 10/],
    ["a session of one who leads none", [root, task(11, 10, 10, 10), task(12, 10, 12, 11)], /leads none/],
    ["a group across sessions", [root, task(11, 10, 11, 11), task(12, 11, 10, 11)], /belongs to session 10/],
    ["a dead group across sessions", [root, task(11, 10, 11, 11), task(12, 11, 50, 11), task(13, 10, 50, 10)], /group 50/],
    ["a group that has a session's number", [root, task(11, 10, 60, 10), task(12, 10, 61, 60)], /belongs to session 60/],
    ["a child of a zombie", [root, task(11, 10, 10, 10, "zombie"), task(12, 11, 10, 10)], /is dead/],
    ["a child of a helper", [root, task(11, 10, 10, 10, "helper"), task(12, 11, 10, 10)], /only while/],
    ["a group with a thread's number", [{ ...root, threads: [10, 50] }, task(11, 10, 50, 10)], /thread of process 10/],
    ["a number too large", [root, task(11, 10, 5_000_000, 10)], /no id/],
    ["an init below the root", [root, task(1, 10, 10, 10)], /not the root/],
  ];
  for (const [what, tasks, message] of bad) {
    it(`reports ${what}`, () => {
      assert.throws(
        () => planTree(tasks),
        (error) => (error instanceof ImageError || error instanceof Problems) && message.test(error.message),
      );
    });
  }

  const refused: readonly [string, string, readonly TreeTask[]][] = [
    ["a root in a session from outside", "ROOT_LEADS_NO_SESSION", [task(10, 0, 10, 5)]],
    ["a session from outside the pid namespace", "SESSION_OUTSIDE_TREE", [root, task(11, 10, 11, 0)]],
    ["a leader below a member of its session", "SESSIONS_NOT_REBUILDABLE", [root, task(11, 10, 12, 12), task(12, 11, 12, 12)]],
    [
      "three sessions that come from each other",
      "SESSIONS_NOT_REBUILDABLE",
      [root].concat(
        ...[20, 30, 40].map((leader) => [
          task(leader, 10, leader, leader),
          ...[20, 30, 40].filter((other) => other !== leader).map((other) => task(leader + other / 10, leader, other, other)),
        ]),
      ),
    ],
  ];
  for (const [what, code, tasks] of refused) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => planTree(tasks),
        (error) => error instanceof Refusal && error.code === code,
      );
    });
  }
});

describe("planTree: random histories", () => {
  for (const [lives, steps] of [
    [200, 25],
    [300, 100],
    [40, 600],
  ] as const) {
    it(`rebuilds what ${lives} lives of ${steps} calls left behind`, () => {
      for (let seed = 0; seed < lives; seed += 1) {
        const history = randomHistory(randomFrom(seed * 1000 + steps), steps);
        try {
          planned(history.tasks, history.shellJob, randomFrom(seed));
        } catch (error) {
          throw new Error(`life ${seed}: ${history.calls.join(", ")}`, { cause: error });
        }
      }
    });
  }
});
