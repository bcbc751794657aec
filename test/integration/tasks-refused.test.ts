/** Processes that cannot be entered, or not carried, for what they are: the refusal says so, and everybody goes on. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const cases = [
  { workload: "tree/no-cave", args: [], code: "NO_CODE_CAVE", title: "a process without an unused byte of code" },
  { workload: "attributes3/ia32", args: ["leaderless"], code: "COMPAT_WITHOUT_LEADER", title: "a 32-bit process without its main thread" },
];

describe("refusals about processes", { skip: isRoot ? false : "needs root" }, () => {
  for (const { workload, args, code, title } of cases) {
    test(`${code}: ${title}`, () =>
      withSubject(Subject.withWorkload(workload, args), async (subject) => {
        const { exit, text } = await subject.run(subject.dumpLine());
        assert.equal(exit.code, 1, text);
        assert.ok(text.includes(`[${code}]`), text);
        assert.deepEqual(readdirSync(subject.images), [], "images were kept");
        await subject.judge();
      }));
  }

  test("PROCESS_VANISHED: a process that is killed while it is waited for", () =>
    withSubject(Subject.withWorkload("tree/refused", ["vfork"]), async (subject) => {
      const [, parent = ""] = /parent (\d+)$/m.exec(subject.report()) ?? [];
      // It is in an unfinished vfork, and stops only when it has ended.
      const kill = `until grep -q 'TracerPid:.[1-9]' /proc/${parent}/status; do sleep 0.01; done; kill -9 ${parent}`;
      const dump = subject.commandLine(["dump", "-t", parent, "--shell-job"]).map((word) => `'${word}'`);
      const { exit, text } = await subject.run(["sh", "-c", `(${kill}) & ${dump.join(" ")}`]);
      assert.equal(exit.code, 1, text);
      assert.match(text, /it ended while it was being frozen.*\[PROCESS_VANISHED\]/s);
      assert.deepEqual(readdirSync(subject.images), [], "images were kept");
      await subject.lane.sweep();
    }));
});
