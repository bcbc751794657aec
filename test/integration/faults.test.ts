/**
 * A dump or restore that fails at any step leaves nothing of itself: every fault point of the engine is made to fail, and
 * every one of a restore to be its death.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { faultPointsOf } from "../harness/fault-points.js";
import { describeExit } from "../harness/lane.js";
import { isRoot, Subject } from "../harness/subject.js";

/** Threads, vector registers and waits; sessions and groups made by temporary processes; the dead; the adopted. */
const workloads: readonly (readonly [string, ...string[]])[] = [["harm/steady", "16"], ["tree/sessions"], ["tree/zombies"]];

const skip = isRoot ? false : "needs root";

function failedOnPurpose(point: string, outcome: Awaited<ReturnType<Subject["run"]>>): void {
  assert.equal(outcome.exit.code, 1, `At ${point} it ${describeExit(outcome.exit)}: ${outcome.text}`);
  assert.match(outcome.text, /FAULT_INJECTED/, `At ${point} it failed for another reason`);
}

for (const [name, ...args] of workloads) {
  describe(`faults: ${name}`, { skip }, () => {
    let subject: Subject;
    let alive: number[] = [];
    before(async () => {
      subject = await Subject.withWorkload(name, args);
      alive = (await subject.lane.inspect()).map((line) => Number(/^process: (\d+) /.exec(line)?.[1]));
    });
    after(() => subject.close());

    /** None is missing, and none of the tool's is left. */
    const sameProcesses = async () => {
      await subject.untilAlone(alive);
      assert.equal((await subject.lane.inspect()).length, alive.length, "There are not the same processes as before");
    };

    for (const point of faultPointsOf("dump")) {
      test(`a dump that fails at ${point} leaves the process running and no image`, async () => {
        failedOnPurpose(point, await subject.run(subject.dumpLine([], { fault: point })));
        assert.deepEqual(readdirSync(subject.images), []);
        await sameProcesses();
      });
    }

    for (const point of faultPointsOf("precopy")) {
      test(`a failure at ${point}, before the dump proper, leaves the process running`, async () => {
        const outcome = await subject.run(subject.dumpLine(["-R", "--pre-copy", "always"], { fault: point }));
        // Copying ahead is not necessary: some of its failures are not the dump's.
        if (outcome.exit.code !== 0) failedOnPurpose(point, outcome);
        for (const image of readdirSync(subject.images)) rmSync(join(subject.images, image));
        await sameProcesses();
      });
    }

    for (const point of faultPointsOf("snapshot")) {
      test(`a dump that fails at ${point} leaves no copy, no image, and the process running`, async () => {
        failedOnPurpose(point, await subject.run(subject.dumpLine(["-R", "--snapshot", "always"], { fault: point })));
        assert.deepEqual(readdirSync(subject.images), []);
        await sameProcesses();
      });
    }

    test("the dump then succeeds", () => subject.dump());

    for (const point of faultPointsOf("restore")) {
      for (const how of ["fails", "is killed"] as const) {
        test(`a restore that ${how} at ${point} leaves nothing`, async () => {
          const pidfile = join(subject.folder, "pidfile");
          const [images, work] = [readdirSync(subject.images), readdirSync(join(subject.folder, "work"))];
          const fault = how === "fails" ? point : `kill:${point}`;
          const outcome = await subject.run(subject.restoreLine(["--pidfile", pidfile], { fault }));
          if (how === "fails") failedOnPurpose(point, outcome);
          else assert.equal(outcome.exit.signal, 9, `At ${point} it ${describeExit(outcome.exit)}: ${outcome.text}`);
          await subject.untilAlone([]);
          assert.deepEqual(readdirSync(subject.images), images);
          assert.deepEqual(readdirSync(join(subject.folder, "work")), work);
          assert.ok(!existsSync(pidfile), "The pid file is left");
        });
      }
    }

    test("the restore then succeeds", async () => {
      await subject.restore();
      await subject.judge();
    });
  });
}
