import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { DirectorySource } from "../../src/images/source.js";
import { KernelRestart } from "../../src/linux/kernel-restart.js";
import { coreEntry } from "../../src/resources/tasks/core.schema.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { syscallCases } from "../workloads/syscalls/cases.js";

suite("syscalls", syscallCases);

const seesKernel = isRoot && KernelRestart.open() !== undefined;

describe("sleeps of 1000 seconds", { skip: isRoot ? false : "needs root" }, () => {
  const WHOLE_NS = 1_000_000_000_000n;
  const SLEPT_NS = 200_000_000n;

  /** What the images say is left of the sleep of each process. */
  function leftIn(images: string, pids: readonly number[]): (bigint | undefined)[] {
    const source = new DirectorySource(images);
    try {
      return pids.map((pid) => source.single("CORE", [pid], coreEntry).thread_core?.restart?.left_ns);
    } finally {
      source.close();
    }
  }

  test("go on for what is left of them, through deaths", () =>
    withSubject(Subject.withWorkload("syscalls/long", seesKernel ? [] : ["telling"]), async (subject) => {
      const said = [...subject.report().matchAll(/^\[\d+\] (.+) (\d+)$/gm)].map(([, name = "", pid]) => ({ name, pid: Number(pid) }));
      assert.equal(said.length, seesKernel ? 5 : 2);
      const pids = said.map(({ pid }) => pid);
      let before = pids.map((): bigint => WHOLE_NS - SLEPT_NS);
      // Without a look into the kernel nobody knows in which call a thread is that was interrupted in it before.
      for (let death = 1; death <= (seesKernel ? 2 : 1); death++) {
        await subject.dump();
        const left = leftIn(subject.images, pids);
        left.forEach((ns, i) => {
          assert.ok(ns !== undefined && ns > 0n && ns <= (before[i] ?? 0n), `${said[i]?.name}: ${ns} ns are left, of ${before[i]}`);
        });
        before = left.map((ns) => ns ?? 0n);
        await subject.restore();
        for (const image of readdirSync(subject.images)) rmSync(join(subject.images, image));
      }
      await subject.judge();
    }));
});
