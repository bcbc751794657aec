/** Trees in a pid namespace of their own, frozen and thawed from outside of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { DirectorySink } from "../../src/images/sink.js";
import { DirectorySource } from "../../src/images/source.js";
import { taskKobjIdsEntry } from "../../src/resources/tasks/core.schema.js";
import { ImageFolder } from "../harness/images.js";
import { withHugePages } from "../harness/huge-pages.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { type Case, oneOfEach } from "../harness/run-case.js";
import { attributeCases } from "../workloads/attributes3/cases.js";
import { eventCases } from "../workloads/events/cases.js";
import { cpuCases } from "../workloads/cpu/cases.js";
import { credentialCases } from "../workloads/credentials/cases.js";
import { lockCases } from "../workloads/files2/cases.js";
import { memoryCases } from "../workloads/memory/cases.js";
import { memory3Cases } from "../workloads/memory3/cases.js";
import { seccompCases } from "../workloads/seccomp/cases.js";
import { syscallCases } from "../workloads/syscalls/cases.js";
import { socketCases } from "../workloads/sockets/cases.js";
import { ptyCases } from "../workloads/ttys/cases.js";
import { signalCases } from "../workloads/signals/cases.js";
import { taskCases } from "../workloads/tasks/cases.js";
import { threadCases } from "../workloads/threads/cases.js";
import { timerCases } from "../workloads/timers/cases.js";
import { treeCases } from "../workloads/tree/cases.js";

const modes = ["killed-restored"] as const;
/** Workloads that compare numbers of /proc, which here is of the namespace around theirs. */
const OUTSIDE_NUMBERS = ["files2/locks", "events/procfs"];

function ownPids(kind: string, cases: readonly Case[]): void {
  suite(
    kind,
    cases.filter(({ workload }) => !OUTSIDE_NUMBERS.includes(workload)),
    { ownPids: true, modes },
  );
}

/** One of those of many processes is enough. */
const isOneOfMany = ({ workload, args }: Case): boolean => workload === "tree/random" && args?.[0] !== "1";

withHugePages(40);

ownPids(
  "tree",
  treeCases.filter((one) => !isOneOfMany(one)),
);
ownPids("threads", threadCases);
ownPids("signals", signalCases);
ownPids("tasks", taskCases);
ownPids("attributes3", oneOfEach(attributeCases));
ownPids("credentials", credentialCases);
ownPids("cpu", oneOfEach(cpuCases));
ownPids("timers", timerCases);
ownPids("events", oneOfEach(eventCases));
ownPids("locks", lockCases);
ownPids("memory", oneOfEach(memoryCases));
ownPids("memory3", oneOfEach(memory3Cases));
ownPids("syscalls", syscallCases);
ownPids("seccomp", seccompCases);
ownPids("ttys", oneOfEach(ptyCases));

/** What sockets know of processes by their numbers. */
const WITH_NUMBERS = ["sockets/unix-peercred", "sockets/unix-unaccepted"];
suite(
  "sockets",
  socketCases.filter(({ workload }) => WITH_NUMBERS.includes(workload)),
  { ownPids: true, modes, lane: { namespaces: ["net"] } },
);

describe("refusals about namespaces", { skip: isRoot ? false : "needs root" }, () => {
  async function refused(argv: readonly string[], options: { init: boolean }, words: readonly string[]): Promise<void> {
    const subject = await Subject.open();
    try {
      const output = join(subject.folder, "out");
      const pid = await subject.lane.spawn({ argv, cwd: join(subject.folder, "work"), output, session: true, init: options.init });
      await subject.until(() => subject.report().includes("ready"), `${argv[0]} is not ready`);
      const { exit, text } = await subject.run(subject.commandLine(["dump", "-t", String(pid)]));
      assert.equal(exit.code, 1, text);
      for (const part of words) assert.ok(text.includes(part), `"${part}" is not in: ${text}`);
      assert.equal(subject.lane.hasExited(pid), false, "the tree has ended");
      await subject.lane.sweep();
    } finally {
      await subject.close();
    }
  }

  test("a process whose children are born into another pid namespace", () =>
    refused(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo ready; sleep 1000; true"], { init: false }, [
      "[NAMESPACE_NOT_CARRIED]",
      "the pid namespace for its children",
    ]));

  test("a pid namespace below that of the tree", () =>
    refused(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo ready; sleep 1000; true"], { init: true }, [
      "[NAMESPACE_NOT_CARRIED]",
      "its pid namespace",
    ]));

  test("a file of /proc by the number outside", () =>
    refused(["sh", "-c", "exec 3</proc/self/status; echo ready; sleep 1000; true"], { init: true }, [
      "[PROC_FILE_OUTER_NUMBER]",
      "fd 3",
      "Close the file",
    ]));

  test("images of a tree that had a network namespace of its own are not restored into ours", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      await subject.dump();
      const intact = new ImageFolder(subject.images, join(subject.folder, "intact"));
      const source = new DirectorySource(subject.images);
      const ids = source.single("IDS", [subject.pid], taskKobjIdsEntry);
      source.close();
      const sink = new DirectorySink(subject.images);
      sink.append("IDS", [subject.pid], { type: taskKobjIdsEntry, value: { ...ids, net_ns_id: 4711 } });
      sink.finish();
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.equal(exit.code, 1, text);
      for (const part of ["[NAMESPACE_NOT_CARRIED]", "its network namespace"]) assert.ok(text.includes(part), text);
      intact.reset();
      await subject.restore();
      await subject.judge();
    }));
});
