/** Memory that is copied before its process is frozen. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Case } from "../harness/run-case.js";
import { withHugePages } from "../harness/huge-pages.js";
import { Subject, isRoot, withSubject } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { memoryCases } from "../workloads/memory/cases.js";
import { memory3Cases } from "../workloads/memory3/cases.js";
import { precopyCases } from "../workloads/precopy/cases.js";

withHugePages(40);

suite("precopy", precopyCases);

/** Mappings with flags of every kind, which are read in another way where memory is copied ahead. */
const ofFlags = ["memory/advice", "memory/protections", "memory/stack", "memory3/guards", "memory3/huge", "memory3/names"];
const aheadOf = (one: Case): Case => ({
  ...one,
  options: [...(one.options ?? []), "--pre-copy", "always"],
  peerCannot: "it has no such option",
});

suite("precopy of memory", [...memoryCases, ...memory3Cases].filter((one) => ofFlags.includes(one.workload)).map(aheadOf), {
  modes: ["killed-restored"],
});

describe("precopy of shared memory", { skip: isRoot ? false : "needs root" }, () => {
  test("what was copied ahead is used where nobody can have written past the tracking", () =>
    withSubject(Subject.withWorkload("precopy/shared", ["calm"]), async (subject) => {
      await subject.must(subject.dumpLine(["-R", "--pre-copy", "always"]));
      const said = subject.logs();
      assert.match(said, /shared memory \(segment[^)]*\) is taken as it was copied ahead/);
      assert.doesNotMatch(said, /shared memory \(segment[^)]*\) is saved anew/);
      await subject.judge();
    }));
});

describe("exactness", { skip: isRoot ? false : "needs root" }, () => {
  const ways: readonly (readonly string[])[] = [
    ["--pre-copy", "always", "--snapshot", "never"],
    ["--pre-copy", "never", "--snapshot", "always"],
    ["--pre-copy", "never", "--snapshot", "never"],
  ];
  for (const way of ways) {
    test(`images of a process that runs on are of one instant: ${way.join(" ")}`, () =>
      withSubject(Subject.withWorkload("precopy/instant"), async (subject) => {
        await subject.must(subject.dumpLine(["-R", ...way]));
        await subject.bringBack();
      }));
  }
});
