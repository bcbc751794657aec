/** Memory of processes that run on is saved from copy-on-write copies of them. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { withHugePages } from "../harness/huge-pages.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import type { Case } from "../harness/run-case.js";
import { suite } from "../harness/suite.js";
import { memoryCases } from "../workloads/memory/cases.js";
import { memory3Cases } from "../workloads/memory3/cases.js";
import { precopyCases } from "../workloads/precopy/cases.js";
import { seccompCases } from "../workloads/seccomp/cases.js";
import { snapshotCases } from "../workloads/snapshot/cases.js";
import { threadCases } from "../workloads/threads/cases.js";
import { treeCases } from "../workloads/tree/cases.js";

const pidsGroups = "/sys/fs/cgroup/pids";

function noPidsGroup(): string | false {
  try {
    readdirSync(pidsGroups);
    return false;
  } catch {
    return "there is no control group for the number of processes (cgroup v1, pids)";
  }
}

const named = (cases: readonly Case[], ...names: string[]) => cases.filter((one) => names.includes(one.workload));

withHugePages(40);

suite("snapshot", snapshotCases);

const stood: readonly Case[] = [
  ...snapshotCases,
  ...named(memoryCases, "memory/advice", "memory/protections", "memory/many", "memory/cow", "memory/inherited", "memory/shared"),
  ...named(memory3Cases, "memory3/guards", "memory3/huge", "memory3/aio", "memory3/memfd", "memory3/clone-vm"),
  ...precopyCases.map((one) => ({ ...one, options: ["--pre-copy", "never"] })),
  ...named(seccompCases, "seccomp/filters", "seccomp/tight"),
  ...named(threadCases, "threads/threads"),
  ...named(treeCases, "tree/storm", "tree/subreaper", "tree/zombies"),
];
suite("snapshot restored", stood, { modes: ["snapshot"] });
suite("snapshot", named(memoryCases, "memory/protections", "memory/cow"), { dump: "floe", restore: "criu", modes: ["snapshot"] });

/** What the log of the last command says. */
function lastLog(subject: Subject): string {
  const folder = join(subject.folder, "logs");
  const logs = readdirSync(folder).filter((name) => name.endsWith(".log"));
  const last = logs.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)).at(-1);
  return last === undefined ? "" : readFileSync(join(folder, last), "utf8");
}

describe("snapshots", { skip: isRoot ? false : "needs root" }, () => {
  test("by itself a copy is made of what is neither small nor large, and only of what runs on", () =>
    withSubject(Subject.withWorkload("memory/still", ["16"]), async (subject) => {
      await subject.must(subject.dumpLine(["-R"]));
      assert.match(lastLog(subject), /is saved from a copy-on-write copy/);
      await subject.must(subject.dumpLine(["-R", "--snapshot", "never"]));
      assert.doesNotMatch(lastLog(subject), /copy-on-write/);
      await subject.dump();
      assert.doesNotMatch(lastLog(subject), /copy-on-write/);
      await subject.restore();
      await subject.judge();
    }));

  test("where there may be no further process memory is saved in the freeze, and the log says so", { skip: noPidsGroup() }, () =>
    withSubject(Subject.withWorkload("memory/still", ["16"]), async (subject) => {
      const group = `${pidsGroups}/floe-test-${process.pid}`;
      const setUp = `mkdir ${group} && echo ${subject.pid} > ${group}/cgroup.procs && echo 1 > ${group}/pids.max`;
      try {
        await subject.must(["sh", "-c", setUp]);
        await subject.must(subject.dumpLine(["-R", "--snapshot", "always"]));
        assert.match(lastLog(subject), /no copy-on-write copy could be made/);
      } finally {
        await subject.must(["sh", "-c", `echo ${subject.pid} > ${pidsGroups}/cgroup.procs; rmdir ${group}`]);
      }
      await subject.must(subject.dumpLine(["-R", "--snapshot", "always"]));
      assert.doesNotMatch(lastLog(subject), /could be made/);
      await subject.judge();
    }),
  );

  test("a copy that somebody kills fails the dump, leaves no image, and the process runs on", () =>
    withSubject(Subject.withWorkload("memory/still", ["16"]), async (subject) => {
      const failed = await subject.run(subject.dumpLine(["-R", "--snapshot", "always"], { fault: "snapshot-saving" }));
      assert.equal(failed.exit.code, 1, failed.text);
      assert.match(failed.text, /FAULT_INJECTED/);
      assert.deepEqual(readdirSync(subject.images), []);
      await subject.untilAlone([subject.pid]);
      await subject.judge();
    }));
});
