/** Trees that cannot be dumped: the refusal says who and why, and everybody goes on. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { withPython } from "../harness/python.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const cases = [
  { what: "traced", title: "tasks that somebody else traces", code: "ALREADY_TRACED", words: ["is traced by process", "Detach"] },
  { what: "vfork", title: "a parent in an unfinished vfork", code: "DOES_NOT_STOP", words: ["vfork"], options: ["--timeout", "1"] },
  { what: "apart", title: "memory shared over the head of a process", code: "MEMORY_SHARED_APART", words: ["its address space"] },
];

describe("refusals about trees", { skip: isRoot ? false : "needs root" }, () => {
  for (const { what, title, code, words, options } of cases) {
    test(title, () =>
      withSubject(Subject.withWorkload("tree/refused", [what]), async (subject) => {
        for (const more of [[], ["--leave-running"]]) {
          const { exit, text } = await subject.run(subject.dumpLine([...more, ...(options ?? [])]));
          assert.equal(exit.code, 1, text);
          for (const part of [`[${code}]`, "(refused)", ...words]) assert.ok(text.includes(part), `"${part}" is not in: ${text}`);
          assert.deepEqual(readdirSync(subject.images), [], "images were kept");
        }
        await subject.judge();
      }),
    );
  }
  test("a job whose session is somebody else's, without --shell-job", () =>
    withPython("import os\nchild = os.fork()\nif child: print('job', child)\nelse: time.sleep(1000)", async (subject) => {
      const [, job = ""] = /^job (\d+)$/m.exec(subject.report()) ?? [];
      const dump = (...more: string[]) => subject.run(subject.commandLine(["dump", "-t", job, ...more]));
      for (const more of [[], ["--leave-running"]]) {
        const { exit, text } = await dump(...more);
        assert.equal(exit.code, 1, text);
        assert.match(text, /Cannot dump process \d+ .*its leader is outside.*--shell-job.*\[ROOT_LEADS_NO_SESSION\]/s);
        assert.deepEqual(readdirSync(subject.images), [], "images were kept");
        assert.ok(
          (await subject.lane.inspect()).some((line) => line.startsWith(`process: ${job} `)),
          "the job has ended",
        );
      }
      const allowed = await dump("--leave-running", "--shell-job");
      assert.equal(allowed.exit.code, 0, allowed.text);
      assert.ok(existsSync(`${subject.images}/inventory.img`));
    }));

  for (const how of ["outside", "outside-parent"])
    test(`a tracer of a process outside of the tree: ${how}`, () =>
      withSubject(Subject.withWorkload("tree/refused", [how]), async (subject) => {
        const [, tracer = ""] = /tracer (\d+)$/m.exec(subject.report()) ?? [];
        for (const more of [[], ["--leave-running"]]) {
          const { exit, text } = await subject.run(subject.commandLine(["dump", "-t", tracer, ...more]));
          assert.equal(exit.code, 1, text);
          assert.match(text, /process \d+ \(refused\): process \d+ \(refused\): it traces it.*\[TRACES_OUTSIDE\]/s);
        }
        await subject.judge();
      }));
});
