/**
 * Fifty times frozen and thawed: a program with something of everything is the same afterwards, and nothing grows, neither
 * in it nor in the images.
 */
import assert from "node:assert/strict";
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

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

/** Sizes may differ by a few bytes: numbers in the images (times, positions) are of varying length. Inode numbers are new each time. */
function mayDifferABit(text: string): string {
  const named = text.replace(/^pagemap-shmem-\d+/gm, "pagemap-shmem");
  return named.replace(/^((?!pages-).* )(\d+)$/gm, (_, name: string, size: string) => `${name}${Math.round(Number(size) / 100)}`);
}

describe("fifty cycles", { skip: isRoot ? false : "needs root" }, () => {
  test("change nothing and let nothing grow", { timeout: 120_000 }, () =>
    withSubject(Subject.withWorkload("cycles/everything"), async (subject) => {
      const options = ["--file-locks"];
      const seen: Size[] = [];
      for (let cycle = 1; cycle <= CYCLES; cycle += 1) {
        for (const image of readdirSync(subject.images)) rmSync(join(subject.images, image));
        const dies = cycle % DEATH_EVERY === 0;
        if (dies) await subject.dump(options);
        else await subject.must(subject.dumpLine([...options, "--leave-running"]));
        if (dies) await subject.restore(options);
        seen.push(await measure(subject));
      }
      // The first restore may merge mappings that the kernel had kept apart (in children of a fork); after it all stays the same.
      const first = seen[DEATH_EVERY] as Size;
      const last = seen.at(-2) as Size;
      assert.match(last.state, /^everything \d+ 17 7$/m);
      assert.equal(last.state, first.state, "mappings, descriptors or threads");
      assert.equal(mayDifferABit(last.images), mayDifferABit(first.images), "images");
      await subject.judge();
    }),
  );
});
