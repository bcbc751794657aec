/**
 * Fifty times frozen and thawed: a program with something of everything is the same afterwards, and nothing grows, neither
 * in it nor in the images.
 */
import assert from "node:assert/strict";
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { withHugePages } from "../harness/huge-pages.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { casePatienceMs } from "../harness/patience.js";

const CYCLES = 50;
/** Every so many of them the processes die and are made again. */
const DEATH_EVERY = 5;

interface Size {
  readonly images: string;
  readonly state: string;
}

/** Names and sizes of all images but the statistics; names with counts of mappings, descriptors and threads of each process. */
async function measure(subject: Subject): Promise<Size> {
  const sizes = readdirSync(subject.images)
    .filter((name) => !name.startsWith("stats-"))
    .sort()
    .map((name) => `${name} ${statSync(join(subject.images, name)).size}`);
  const count =
    "cd /proc; for p in [0-9]*; do echo $(cat $p/comm) $(wc -l <$p/maps) $(ls $p/fd | wc -l) $(ls $p/task | wc -l); done | grep everything";
  return { images: sizes.join("\n"), state: await subject.must(["sh", "-c", count]) };
}

/** Numbers in the images (times, positions) are of varying length. */
const FEW_BYTES = 100;

/** Names and sizes are the same but for a few bytes, those of pages wholly. Inode numbers, which are in names, are new each time. */
function assertSame(now: string, before: string): void {
  const [rows, wanted] = [now, before].map((text) =>
    text
      .split("\n")
      .map((row) => [row.replace(/ \d+$/, "").replace(/^pagemap-shmem-\d+/, "pagemap-shmem"), Number(/\d+$/.exec(row)?.[0])] as const),
  ) as [(readonly [string, number])[], (readonly [string, number])[]];
  const names = (all: readonly (readonly [string, number])[]) => all.map(([name]) => name);
  assert.deepEqual(names(rows), names(wanted), "images");
  rows.forEach(([name, size], i) => {
    const [, was = 0] = wanted[i] ?? [];
    assert.ok(Math.abs(size - was) <= (name.startsWith("pages-") ? 0 : FEW_BYTES), `${name} had ${was} bytes, has ${size}`);
  });
}

withHugePages(8);

describe("fifty cycles", { skip: isRoot ? false : "needs root" }, () => {
  test("change nothing and let nothing grow", { timeout: 2 * casePatienceMs }, (context) =>
    withSubject(Subject.withWorkload("cycles/everything"), async (subject) => {
      const options = ["--file-locks"];
      const tookMs: number[] = [];
      const seen: Size[] = [];
      for (let cycle = 1; cycle <= CYCLES; cycle += 1) {
        for (const image of readdirSync(subject.images)) rmSync(join(subject.images, image));
        const dies = cycle % DEATH_EVERY === 0;
        const start = performance.now();
        if (dies) await subject.dump(options);
        else await subject.must(subject.dumpLine([...options, "--leave-running"]));
        if (!dies) tookMs.push(performance.now() - start);
        if (dies) await subject.restore(options);
        seen.push(await measure(subject));
      }
      // The first restore may merge mappings that the kernel had kept apart (in children of a fork); after it all stays the same.
      const first = seen[DEATH_EVERY] as Size;
      const last = seen.at(-2) as Size;
      assert.match(last.state, /^everything \d+ 17 7$/m);
      assert.equal(last.state, first.state, "mappings, descriptors or threads");
      assertSame(last.images, first.images);
      // Time is no matter of yes and no; who wants to see whether it grows can.
      const fifths = [0, 1, 2, 3, 4].map((i) =>
        tookMs
          .slice(i * 8, i * 8 + 8)
          .sort((a, b) => a - b)[4]
          ?.toFixed(0),
      );
      context.diagnostic(`median milliseconds of a dump, by eight: ${fifths.join(", ")}`);
      await subject.judge();
    }),
  );
});
