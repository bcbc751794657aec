/** Ids of processes and threads that a tree needs, and that the restoring Floe would get itself. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

describe("ids that Floe itself would get", { skip: isRoot ? false : "needs root" }, () => {
  /** A restore by a shell that has the next process or thread get this id. */
  const restoreFrom = (subject: Subject, id: number, isChild: boolean) => {
    const line = subject.restoreLine().map((word) => `'${word}'`);
    const setId = `echo ${id - 1} > /proc/sys/kernel/ns_last_pid`;
    return subject.run(["sh", "-c", `${setId}; ${isChild ? "" : "exec "}${line.join(" ")}${isChild ? "; exit $?" : ""}`]);
  };

  test("an id that threads of Floe have got is free for the tree", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      await subject.dump();
      // The first threads of the runtime get the ids around it.
      const { exit, text } = await restoreFrom(subject, subject.pid - 1, false);
      assert.equal(exit.code, 0, text);
      subject.wasRestoredByOther();
      await subject.judge();
    }));

  test("an id that Floe itself has got is refused with what to do", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      await subject.dump();
      const { exit, text } = await restoreFrom(subject, subject.pid, true);
      assert.equal(exit.code, 1, text);
      assert.match(text, /in use by Floe itself.*Run the same command again.*\[PID_TAKEN\]/s);
      await subject.restore();
      await subject.judge();
    }));
});
