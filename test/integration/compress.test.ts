/** Pages in the page store: compressed, or stored once; with increments; damaged; and what CRIU says of such images. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { withTimeout } from "../harness/lane.js";
import { findTool, floeOfFile } from "../harness/tool.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { patienceMs } from "../harness/patience.js";

const MIB = 1 << 20;
const STORE = "floe-page-store.img";

function roomOf(folder: string): number {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".img"))
    .reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0);
}

function moveImages(subject: Subject, name: string): void {
  renameSync(subject.images, join(subject.folder, name));
  mkdirSync(subject.images, { mode: 0o700 });
}

function withWorkload(name: string, args: readonly string[], work: (subject: Subject) => Promise<void>): Promise<void> {
  return withSubject(Subject.withWorkload(name, args), work);
}

describe("the page store", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  for (const [workload, args, options] of [
    ["memory/still", ["48"], ["--compress", "lz4"]],
    ["memory/many", ["large"], ["--compress", "zstd:3", "--pre-copy", "always"]],
    ["memory/cow", ["anonymous"], ["--compress", "lz4:9", "--share-pages"]],
    ["memory/cow", ["file"], ["--share-pages"]],
    ["memory/inherited", [], ["--compress", "zstd", "--share-pages"]],
    ["memory3/shmem-fd", [], ["--compress", "lz4", "--share-pages"]],
  ] as const) {
    test(`${workload} ${args.join(" ")} comes back from images made with ${options.join(" ")}`, () =>
      withWorkload(workload, args, async (subject) => {
        await subject.must(subject.dumpLine(["-R", ...options]));
        await subject.dump(options);
        assert.ok(!readdirSync(subject.images).some((name) => /^pages-/.test(name)), "there is a plain pages image");
        await subject.restore();
        await subject.judge();
      }));
  }

  test("a lazy restore reads from the page store, by chunks", () =>
    withWorkload("memory/still", ["48"], async (subject) => {
      await subject.dump(["--compress", "lz4", "--share-pages"]);
      const tool = floeOfFile();
      if ("missing" in tool) throw new Error(tool.missing);
      await subject.must([...tool.command.slice(0, -1), "restore", subject.images, "--lazy", "--detach"]);
      subject.wasRestoredByOther();
      // While memory is still coming its mappings say so.
      await subject.untilAlone([subject.pid]);
      await subject.judge();
    }));

  test("a parent of 64 MiB with eight forked children takes little more room than the parent", () =>
    withWorkload("memory/family", ["64", "8"], async (subject) => {
      await subject.must(subject.dumpLine(["-R"]));
      const plain = roomOf(subject.images);
      assert.ok(plain > 9 * 64 * MIB, `plain images have only ${plain} bytes`);
      await subject.dump(["--share-pages"]);
      const shared = roomOf(subject.images);
      assert.ok(shared < plain * 0.13, `${shared} bytes instead of ${plain}`);
      await subject.restore();
      await subject.judge();
    }));

  test("compressed images build on plain ones and plain ones on compressed ones, and older ones give their room back", () =>
    withWorkload("memory/still", ["32"], async (subject) => {
      const preDump = (...more: string[]) => subject.must(subject.commandLine(["pre-dump", "-t", String(subject.pid), ...more]));
      await preDump();
      moveImages(subject, "first");
      await preDump("--prev-images-dir", "../first", "--compress", "zstd");
      moveImages(subject, "second");
      // Everything that the first two have is compared with what is there now; shared memory is new.
      await subject.must(subject.dumpLine(["-R", "--prev-images-dir", "../second", "--compress", "lz4", "--share-pages"]));
      moveImages(subject, "third");
      await subject.must(subject.dumpLine(["-R", "--compress", "lz4"]));
      moveImages(subject, "fourth");
      const before = roomOf(join(subject.folder, "fourth"));
      await subject.dump(["--prev-images-dir", "../fourth", "--auto-dedup"]);
      assert.ok(roomOf(subject.images) < 8 * MIB, `the last dump has ${roomOf(subject.images)} bytes`);
      await subject.restore(["--auto-dedup"]);
      const left = roomOf(join(subject.folder, "fourth"));
      assert.ok(left < before / 4, `${left} of ${before} bytes are left in images that were used up`);
      await subject.judge();
    }));

  test("a store that is damaged, or cut, is told by name and place, and nothing is made", () =>
    withWorkload("memory/still", ["16"], async (subject) => {
      await subject.dump(["--compress", "lz4"]);
      const path = join(subject.images, STORE);
      const intact = readFileSync(path);
      for (const at of [0, 33, Math.floor(intact.length / 2), intact.length - 5]) {
        const damaged = Buffer.from(intact);
        damaged[at] = (damaged[at] as number) ^ 0x10;
        writeFileSync(path, at === 33 ? damaged.subarray(0, intact.length - 4096) : damaged);
        const { exit, text } = await subject.run(subject.restoreLine());
        assert.notEqual(exit.code, 0);
        assert.match(text, /"floe-page-store\.img" at byte \d+.*IMAGE_BAD_PAGE_STORE/s);
        await subject.untilAlone([]);
      }
      writeFileSync(path, intact);
      await subject.restore();
      await subject.judge();
    }));

  test("CRIU says that the pages are missing, and makes nothing", async (t) => {
    const peer = findTool("criu");
    if ("missing" in peer) return t.skip(peer.missing);
    await withWorkload("memory/still", ["16"], async (subject) => {
      await subject.dump(["--compress", "lz4"]);
      const log = join(subject.folder, "logs", "peer.log");
      const { exit, text } = await subject.run([...peer.command, "restore", "-d", "-D", subject.images, "-o", log]);
      assert.notEqual(exit.code, 0);
      assert.match(text + readFileSync(log, "utf8"), /Failed getting raw image fd|Can't read pages data/);
      await subject.untilAlone([]);
      await subject.restore();
      await subject.judge();
    });
  });

  test("images that are too large for the page cache do not stay there, neither written nor read", (t) =>
    withWorkload("memory/still", ["32"], async (subject) => {
      const cached = async () =>
        Number((await subject.must(["sh", "-c", `fincore -nrb -o RES ${join(subject.images, "pages-1.img")}`])).trim());
      const kind = (await subject.must(["stat", "-f", "-c", "%T", subject.images])).trim();
      if (kind === "tmpfs") return t.skip("the images are in memory here");
      const end = subject.lane.nextExit(subject.pid);
      await subject.must(["env", "FLOE_CACHED_MIB=8", ...subject.dumpLine(["--pre-copy", "always"])]);
      await withTimeout(end, patienceMs, "The end of the dumped process");
      await subject.untilAlone([]);
      const written = await cached();
      assert.ok(written < 4 * MIB, `${written} bytes of the image are in the page cache after the dump`);
      await subject.must(["sh", "-c", `cat ${join(subject.images, "pages-1.img")} > /dev/null`]);
      assert.ok((await cached()) > 16 * MIB);
      await subject.must(["env", "FLOE_CACHED_MIB=8", ...subject.restoreLine()]);
      const read = await cached();
      assert.ok(read < 4 * MIB, `${read} bytes of the image are in the page cache after the restore`);
      subject.wasRestoredByOther();
      await subject.judge();
    }));

  test("ways to compress that are unknown are refused before anything is touched", () =>
    withWorkload("memory/still", ["1"], async (subject) => {
      for (const how of ["gzip", "lz4:13", "zstd:0", "zstd:", "zstd:1:1", ""]) {
        const { exit, text } = await subject.run(subject.dumpLine(["--compress", how]));
        assert.notEqual(exit.code, 0, how);
        assert.match(text, /lz4 or zstd/, how);
      }
      await subject.judge();
    }));
});
