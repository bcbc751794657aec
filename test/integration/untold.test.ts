/** A program that watches its own files is told of nothing that Floe does. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const dumps: Readonly<Record<string, readonly string[]>> = {
  "a dump": [],
  "a dump with copies ahead": ["--pre-copy", "always"],
  "a dump that looks for builds": ["--file-validation", "buildid"],
};

describe("a program that watches its own files is told of nothing", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  for (const how of ["inotify", "fanotify", "notice"]) {
    for (const [what, options] of Object.entries(dumps)) {
      test(`${how}: ${what} that leaves it running`, () =>
        withSubject(Subject.withWorkload("events/untold", [how]), async (subject) => {
          await subject.must(subject.dumpLine(["--leave-running", ...options]));
          await subject.judge();
        }));
    }
    test(`${how}: dumps again and again`, () =>
      withSubject(Subject.withWorkload("events/untold", [how]), async (subject) => {
        await subject.must(subject.dumpLine(["--every", "0", "--rounds", "3"]));
        await subject.judge();
      }));
    test(`${how}: pre-dump, dump and restore`, () =>
      withSubject(Subject.withWorkload("events/untold", [how]), async (subject) => {
        const first = join(subject.folder, "images", "1");
        mkdirSync(first);
        const line = subject.commandLine(["pre-dump", "-t", String(subject.pid)]);
        await subject.must(line.map((word) => (word === subject.images ? first : word)));
        await subject.dump(["--prev-images-dir", "1"]);
        await subject.restore();
        await subject.judge();
      }));
  }

  test("a deleted file that is watched, whose contents go into the images", () =>
    withSubject(Subject.withWorkload("events/untold", ["deleted"]), async (subject) => {
      await subject.must(subject.dumpLine(["--leave-running", "--ghost-limit", "16M"]));
      await subject.judge();
    }));

  test("files that are carried with their contents", () =>
    withSubject(Subject.withWorkload("events/untold", ["inotify"]), async (subject) => {
      await subject.must(subject.dumpLine(["--leave-running", "--file-policy", "carry"]));
      await subject.judge();
    }));
});
