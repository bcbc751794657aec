/** A tree that is dumped again and again by one command, which knows what was written in between. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, renameSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { findTool } from "../harness/tool.js";

const MIB = 1 << 20;
const peer = findTool("criu");

function roomOf(folder: string): number {
  const names = readdirSync(folder).filter((name) => name.startsWith("pages-"));
  return names.reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0);
}

function choose(subject: Subject, round: number): void {
  renameSync(subject.images, join(subject.folder, "all"));
  symlinkSync(join("all", `${round}`), subject.images);
}

async function restoreFrom(subject: Subject, round: number): Promise<void> {
  await subject.untilAlone([]);
  choose(subject, round);
  await subject.restore();
  await subject.judge();
}

describe("every", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  test("a dump after the first one holds what was written since, without reading the rest", () =>
    withSubject(Subject.withWorkload("memory/still", ["64"]), async (subject) => {
      await subject.must(subject.dumpLine(["--every", "0", "--rounds", "3"]));
      assert.deepEqual(readdirSync(subject.images).sort(), ["1", "2", "3"]);
      assert.ok(roomOf(join(subject.images, "1")) > 64 * MIB);
      for (const round of ["2", "3"]) assert.ok(roomOf(join(subject.images, round)) < MIB, `${roomOf(join(subject.images, round))} bytes`);
      const known = [...subject.logs().matchAll(/(\d+) bytes were not written since/g)].map(([, bytes]) => Number(bytes));
      assert.equal(known.length, 2, subject.logs());
      for (const bytes of known) assert.ok(bytes > 63 * MIB, `Only ${bytes} bytes were known`);
      await subject.kill();
      await restoreFrom(subject, 3);
    }));

  test("memory that changes in every way is that of the last instant", () =>
    withSubject(Subject.withWorkload("precopy/torture"), async (subject) => {
      await subject.must(subject.dumpLine(["--every", "0", "--rounds", "5", "--pre-copy", "always"]));
      assert.match(subject.logs(), /bytes were not written since/);
      await subject.kill();
      await restoreFrom(subject, 5);
    }));

  test("the peer restores such a chain", { skip: "missing" in peer ? peer.missing : false }, () =>
    withSubject(Subject.withWorkload("memory/still", ["64"]), async (subject) => {
      await subject.must(subject.dumpLine(["--every", "0", "--rounds", "2"]));
      await subject.kill();
      choose(subject, 2);
      const words = ["restore", "-d", "-D", subject.images, "-o", join(subject.folder, "logs", "peer.log")];
      await subject.must([...("missing" in peer ? [] : peer.command), ...words]);
      // The peer puts what it restores into a time namespace of its own.
      await subject.judge(["link ns/time"]);
    }),
  );

  test("it ends when the tree does, and goes on counting where it is called again", () =>
    withSubject(Subject.withWorkload("memory/still", ["8"]), async (subject) => {
      await subject.must(subject.dumpLine(["--every", "0", "--rounds", "1"]));
      const over = subject.must(subject.dumpLine(["--every", "1000", "--prev-images-dir", "1"]));
      const second = join(subject.images, "2", "inventory.img");
      await subject.until(() => existsSync(second), "The second dump does not end");
      await subject.kill();
      await over;
      assert.deepEqual(readdirSync(subject.images).sort(), ["1", "2"]);
      await restoreFrom(subject, 2);
    }));
});
