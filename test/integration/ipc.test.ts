/** IPC namespaces of a tree's own, with Floe outside of them. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";

import { KernelSemaphores } from "../../src/linux/kernel-semaphores.js";
import { withHugePages } from "../harness/huge-pages.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { ipcCases, sharedIpcCases } from "../workloads/ipc/cases.js";

withHugePages(40);

suite("ipc", ipcCases);
suite("ipc", sharedIpcCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("ipc", sharedIpcCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
suite("ipc", ipcCases, { ownPids: true, ownIpc: true, modes: ["killed-restored"] });

describe("refusals about IPC namespaces", { skip: isRoot ? false : "needs root" }, () => {
  for (const [state, words] of [
    ["files", 'the POSIX message queue "/some"'],
    ["forced", "kernel.shm_rmid_forced"],
    ["long", "kernel.msgmax"],
    ["undo", "semaphore 0 of set 0"],
  ] as const) {
    const skip = state === "undo" && KernelSemaphores.open() === undefined ? "what is to be undone is not seen on this machine" : false;
    test(`IPC_NOT_CARRIED: ${words}; the process is unharmed`, { skip }, () =>
      withSubject(Subject.withWorkload("ipc/refused", [state]), async (subject) => {
        const { exit, text } = await subject.run(subject.dumpLine());
        assert.equal(exit.code, 1, text);
        for (const part of ["[IPC_NOT_CARRIED]", words]) assert.ok(text.includes(part), text);
        assert.deepEqual(readdirSync(subject.images), [], "images were kept");
        await subject.judge();
      }),
    );
  }

  test("a restore into an IPC namespace that fails or is killed leaves nothing", () =>
    withSubject(Subject.withWorkload("ipc/segments"), async (subject) => {
      await subject.dump();
      for (const fault of ["restore-seed", "kill:restore-seed", "kill:restore-layout", "restore-threads"]) {
        const { exit } = await subject.run(subject.restoreLine([], { fault }));
        assert.notEqual(exit.code, 0, fault);
        await subject.untilAlone([]);
      }
      await subject.restore();
      await subject.judge();
    }));
});
