/** Clocks of a process that comes back after a reboot or on another machine, which its images are made to say. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DirectorySink } from "../../src/images/sink.js";
import { DirectorySource } from "../../src/images/source.js";
import { timensEntry } from "../../src/resources/namespaces/time.schema.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const AHEAD = 5_000_000n;

/** The dump seems to have been made elsewhere, on a machine that had been up for longer. */
function moveElsewhere(images: string): void {
  const source = new DirectorySource(images);
  const saved = source.single("TIMENS", [0], timensEntry);
  source.close();
  for (const clock of [saved.monotonic, saved.boottime]) clock.tv_sec += AHEAD;
  const sink = new DirectorySink(images);
  sink.append("TIMENS", [0], { type: timensEntry, value: { ...saved, boot_id: "another-boot" } });
  sink.finish();
}

const pause = (ms: number): Promise<void> => new Promise((resume) => setTimeout(resume, ms));

describe("clocks", { skip: isRoot ? false : "needs root" }, () => {
  test("go on from the dump after a reboot, and in each dump and restore after that", () =>
    withSubject(Subject.withWorkload("timers/clocks", [String(AHEAD)]), async (subject) => {
      await pause(50);
      await subject.dump();
      moveElsewhere(subject.images);
      await subject.restore();
      await pause(50);
      await subject.must(subject.dumpLine(["--leave-running"]));
      await subject.dump();
      await subject.restore();
      await pause(50);
      await subject.judge();
    }));

  test("are the machine's own as long as it has not been booted", () =>
    withSubject(Subject.withWorkload("timers/clocks"), async (subject) => {
      await pause(50);
      await subject.dump();
      await subject.restore();
      await pause(50);
      const own = await subject.must(["readlink", "/proc/self/ns/time", `/proc/${subject.pid}/ns/time`]);
      const [ours, theirs] = own.trim().split("\n");
      assert.equal(theirs, ours);
      await subject.judge();
    }));

  test("of children to come that would be others are refused", () =>
    withSubject(Subject.withWorkload("timers/clocks", ["prepared"]), async (subject) => {
      const { exit, text } = await subject.run(subject.dumpLine());
      assert.equal(exit.code, 1, text);
      for (const part of ["[NAMESPACE_NOT_CARRIED]", "time namespace for its children"]) assert.ok(text.includes(part), text);
      await subject.judge();
    }));
});
