/** Trees that cannot be dumped: the refusal says who and why, and everybody goes on. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
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
});
