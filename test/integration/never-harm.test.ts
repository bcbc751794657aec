/**
 * A dump never harms: the dumper is killed with SIGKILL at random instants, at every fault point and before every single
 * call by which it touches the process; after each the process goes on, and in the end it finds nothing changed.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";

import { compileWorkload } from "../harness/compile.js";
import { faultPointsOf } from "../harness/fault-points.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

/** Kills at random instants. */
const kills = Number(process.env["FLOE_HARM_KILLS"] ?? "120");
const limitMs = 280_000;

interface Strikes {
  readonly mode: "start" | "frozen" | "step" | "never";
  /** The seed, or the first step. */
  readonly from: number;
  readonly count: number;
  /** Microseconds in which the instants lie, or from step to step. */
  readonly window?: number;
  readonly fault?: string;
  readonly options?: readonly string[];
}

/** Has the dumper killed again and again (strike.c); returns how often the process was held then, and how often it was too late. */
async function strike(subject: Subject, strikes: Strikes): Promise<{ held: number; late: number }> {
  const { mode, from, count, window = 0, fault, options = [] } = strikes;
  const progress = join(subject.folder, "work", "progress");
  const words = [String(subject.pid), progress, mode, String(from), String(count), String(window)];
  // One of the points is met only where the process is to die.
  const end = fault?.endsWith("dump-dying") === true ? [] : ["-R"];
  const dump = subject.dumpLine([...end, ...options], fault === undefined ? {} : { fault });
  const text = await subject.must([await compileWorkload("harm/strike"), ...words, ...dump], limitMs);
  const [, held, late] = /^held (\d+), ended before (\d+)$/m.exec(text) ?? [];
  return { held: Number(held), late: Number(late) };
}

/** How long an undisturbed dump holds the process, in microseconds. */
async function frozenUs(subject: Subject): Promise<number> {
  const said = await subject.must(subject.dumpLine(["-R", "--display-stats"]));
  const found = /Frozen time: (\d+) us/.exec(said)?.[1];
  assert.ok(found !== undefined, said);
  return Number(found);
}

/** After all the kills: dumps in place, then dies and comes back, then judges. */
async function fullLife(subject: Subject): Promise<void> {
  await subject.must(subject.dumpLine(["-R"]));
  await subject.untilAlone([subject.pid]);
  await subject.dump();
  await subject.restore();
  await subject.judge();
}

/** Kills are many, and most of the time goes to starting what is to be killed: that is the executable, but in one of the tests. */
interface Setting {
  /** By Node, not the executable. */
  readonly node?: boolean;
  /** Half of the memory is shared memory. */
  readonly shared?: boolean;
  /** It catches every signal that can be caught. */
  readonly catching?: boolean;
}

function withSteady(
  mib: number,
  work: (subject: Subject) => Promise<void>,
  { node = false, shared = false, catching = false }: Setting = {},
): Promise<void> {
  const words = [String(mib), ...(shared ? ["shared"] : catching ? ["all", "killed"] : [])];
  return withSubject(Subject.withWorkload("harm/steady", words), async (subject) => {
    subject.isOnNode = node;
    await work(subject);
    await fullLife(subject);
  });
}

/** Three times each. */
async function killAtEveryPoint(subject: Subject): Promise<void> {
  const options = ["--pre-copy", "always"];
  for (const point of faultPointsOf("precopy")) {
    await strike(subject, { mode: "never", from: 0, count: 3, fault: `kill:${point}`, options });
  }
  for (const point of faultPointsOf("snapshot")) {
    await strike(subject, { mode: "never", from: 0, count: 3, fault: `kill:${point}`, options: ["--snapshot", "always"] });
    await subject.untilAlone([subject.pid]);
  }
  for (const point of faultPointsOf("dump")) await strike(subject, { mode: "never", from: 0, count: 3, fault: `kill:${point}` });
}

describe("never harm", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  // Two processes, so that two processors are busy.
  for (const [seed, form, count] of [
    [1, "Node", Math.round(kills / 6)],
    [2, "the executable", Math.round((kills * 5) / 6)],
  ] as const) {
    test(`${count} kills of ${form} at random instants, 256 MiB`, (context) =>
      withSteady(
        256,
        async (subject) => {
          const window = await frozenUs(subject);
          const some = Math.round(count / 6);
          // Without the memory, which takes most of the time: the kills meet the way in and the way out.
          const brief = { mode: "frozen", from: seed, count: some * 2, window: Math.round(window / 4), fault: "dump-threads" } as const;
          const short = await strike(subject, brief);
          await strike(subject, { mode: "start", from: seed + 10, count: some, window: 400_000 });
          const whole = await strike(subject, { mode: "frozen", from: seed + 20, count: count - some * 3, window });
          context.diagnostic(`${short.held + whole.held} kills met a process that was held`);
          assert.ok(short.held + whole.held > count / 20, `Only ${short.held + whole.held} kills met a process that was held`);
        },
        { node: form === "Node" },
      ));
  }

  for (const half of [1, 2]) {
    test(`a kill before every call that touches the process (${half} of 2)`, (context) =>
      withSteady(16, async (subject) => {
        const { held, late } = await strike(subject, { mode: "step", from: half, count: 200, window: 2, fault: "dump-threads" });
        context.diagnostic(`${held} steps`);
        assert.ok(held > 20, `Only ${held} steps were seen`);
        assert.equal(late, 1, "There are more steps than were tried");
      }));
  }

  test("a kill before every fourth call that touches a process that catches every signal", (context) =>
    withSteady(
      16,
      async (subject) => {
        const { held, late } = await strike(subject, { mode: "step", from: 1, count: 100, window: 4, fault: "dump-threads" });
        context.diagnostic(`${held} steps`);
        assert.ok(held > 10, `Only ${held} steps were seen`);
        assert.equal(late, 1, "There are more steps than were tried");
      },
      { catching: true },
    ));

  test("a kill before every fourth call that touches a process whose memory is copied ahead", (context) =>
    withSteady(16, async (subject) => {
      const options = ["--pre-copy", "always"];
      const { held, late } = await strike(subject, { mode: "step", from: 1, count: 150, window: 4, fault: "precopy-copied", options });
      context.diagnostic(`${held} steps`);
      assert.ok(held > 10, `Only ${held} steps were seen`);
      assert.equal(late, 1, "There are more steps than were tried");
    }));

  test("a kill before every sixth call that touches a process, or the copy that its memory is saved from", (context) =>
    withSteady(16, async (subject) => {
      const options = ["--snapshot", "always"];
      const { held, late } = await strike(subject, { mode: "step", from: 1, count: 60, window: 6, fault: "snapshot-saving", options });
      context.diagnostic(`${held} steps`);
      assert.ok(held > 10, `Only ${held} steps were seen`);
      assert.equal(late, 1, "There are more steps than were tried");
      await subject.untilAlone([subject.pid]);
    }));

  test("a kill at every fault point of a process with syscall user dispatch, which stays on", () =>
    withSubject(Subject.withWorkload("attributes3/dispatch"), async (subject) => {
      for (const point of faultPointsOf("dump")) {
        const words = point === "dump-dying" ? [] : ["-R"];
        for (let round = 0; round < 2; round++) {
          const { exit } = await subject.run(subject.dumpLine(words, { fault: `kill:${point}` }));
          assert.equal(exit.signal, 9, `the dumper was not killed at ${point}`);
        }
      }
      // What a killed dumper left behind is taken away by the next one.
      await subject.must(subject.dumpLine(["-R"]));
      await subject.judge();
    }));

  test("a kill at every fault point", () => withSteady(16, killAtEveryPoint, { shared: true }));
});
