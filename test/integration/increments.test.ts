/** Chains of images: pre-dumps, snapshots, and a dump that is the difference to them; what of it takes room. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { oneOfEach } from "../harness/run-case.js";
import { withHugePages } from "../harness/huge-pages.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { memoryCases } from "../workloads/memory/cases.js";
import { memory3Cases } from "../workloads/memory3/cases.js";
import { precopyCases } from "../workloads/precopy/cases.js";

withHugePages(40);

for (const [kind, cases] of [
  ["memory", memoryCases],
  ["memory3", oneOfEach(memory3Cases)],
  ["precopy", precopyCases],
] as const)
  suite(kind, cases, { modes: ["chained"] });
suite("memory", oneOfEach(memoryCases), { dump: "floe", restore: "criu", modes: ["chained"] });

const MIB = 1 << 20;

/** Blocks that the page images of a directory take up, in bytes. */
function roomOf(folder: string): number {
  const names = readdirSync(folder).filter((name) => name.startsWith("pages-"));
  return names.reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0);
}

/** Gives the images directory another name, beside it, and makes an empty one in its place. */
function moveImages(subject: Subject, name: string): string {
  const path = join(subject.folder, name);
  renameSync(subject.images, path);
  mkdirSync(subject.images, { mode: 0o700 });
  return path;
}

function withStill(work: (subject: Subject) => Promise<void>): Promise<void> {
  return withSubject(Subject.withWorkload("memory/still", ["64"]), work);
}

async function preDump(subject: Subject, ...options: string[]): Promise<void> {
  await subject.must(subject.commandLine(["pre-dump", "-t", String(subject.pid), "--track-mem", ...options]));
}

describe("increments", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  test("only what differs takes room, and all of it comes back", () =>
    withStill(async (subject) => {
      await preDump(subject);
      const first = moveImages(subject, "first");
      assert.ok(roomOf(first) > 64 * MIB, `The pre-dump has only ${roomOf(first)} bytes`);
      await preDump(subject, "--prev-images-dir", "../first");
      const second = moveImages(subject, "second");
      assert.ok(roomOf(second) < 4 * MIB, `The second pre-dump has ${roomOf(second)} bytes`);
      await subject.must(subject.dumpLine(["-R", "--track-mem", "--prev-images-dir", "../second"]));
      const third = moveImages(subject, "third");
      assert.ok(roomOf(third) < 4 * MIB, `The snapshot has ${roomOf(third)} bytes`);
      await subject.dump(["--prev-images-dir", "../third"]);
      assert.ok(roomOf(subject.images) < 4 * MIB, `The dump has ${roomOf(subject.images)} bytes`);
      await subject.restore();
      await subject.judge();
    }));

  test("the same for memory that is copied before the freeze, and with pages taken out of the older images", () =>
    withStill(async (subject) => {
      await preDump(subject);
      const first = moveImages(subject, "first");
      const before = roomOf(first);
      await subject.dump(["--prev-images-dir", "../first", "--pre-copy", "always", "--auto-dedup"]);
      const [own, left] = [roomOf(subject.images), roomOf(first)];
      assert.ok(own < 32 * MIB, `The dump has ${own} bytes`);
      assert.ok(left + own < before + 20 * MIB, `${left} and ${own} bytes are left of ${before}`);
      await subject.restore(["--auto-dedup"]);
      assert.ok(roomOf(first) < MIB, `${roomOf(first)} bytes are left in the images after they were used up`);
      await subject.judge();
    }));

  test("a chain can be thinned afterwards, and its last images still come back", () =>
    withStill(async (subject) => {
      await preDump(subject);
      const first = moveImages(subject, "first");
      const before = roomOf(first);
      // Everything once more, so that the first images are needed no longer.
      await subject.dump();
      await subject.must(["ln", "-s", "../first", join(subject.images, "parent")]);
      await subject.must(subject.commandLine(["dedup"]));
      assert.ok(roomOf(first) < before / 8, `${roomOf(first)} of ${before} bytes are left`);
      await subject.restore();
      await subject.judge();
    }));

  test("a page that the older images do not have is told, and nothing is made", () =>
    withStill(async (subject) => {
      await preDump(subject);
      const first = moveImages(subject, "first");
      await subject.dump(["--prev-images-dir", "../first"]);
      for (const name of readdirSync(first)) if (name.startsWith("pagemap-")) renameSync(join(first, name), join(subject.folder, name));
      const gone = await subject.run(subject.restoreLine());
      assert.notEqual(gone.exit.code, 0);
      assert.match(gone.text, /should be in the images of the dump before.*IMAGE_BAD_PAGEMAP/s);
      rmSync(join(subject.images, "parent"));
      const unlinked = await subject.run(subject.restoreLine());
      assert.match(unlinked.text, /no link named parent.*IMAGE_BAD_PAGEMAP/s);
      await subject.must(["ln", "-s", ".", join(subject.images, "parent")]);
      const circle = await subject.run(subject.restoreLine());
      assert.match(circle.text, /IMAGE_BAD_PARENT/);
      await subject.untilAlone([]);
    }));

  test("images to build on that cannot be used are refused before anything is touched", () =>
    withStill(async (subject) => {
      for (const [name, what] of [
        ["../nowhere", /there is no such directory/],
        [".", /it is the directory of the new images/],
        ["../logs/../out", /it is not a directory/],
      ] as const) {
        const said = await subject.run(subject.dumpLine(["--prev-images-dir", name]));
        assert.notEqual(said.exit.code, 0);
        assert.match(said.text, what);
        assert.match(said.text, /PREV_IMAGES_UNUSABLE/);
      }
      await subject.judge();
    }));
});
