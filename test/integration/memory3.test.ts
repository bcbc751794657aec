import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { KernelAio } from "../../src/linux/kernel-aio.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { memory3Cases, sharedCases } from "../workloads/memory3/cases.js";

/** Pages of 2 MiB that the workloads need at once; without them those about huge pages say so and pass. */
const HUGE_PAGES = 40;
const POOL = "/proc/sys/vm/nr_hugepages";
let pool: string | undefined;

before(() => {
  try {
    pool = readFileSync(POOL, "utf8").trim();
    if (Number(pool) < HUGE_PAGES) writeFileSync(POOL, String(HUGE_PAGES));
  } catch {
    pool = undefined;
  }
});
after(() => {
  if (pool !== undefined) writeFileSync(POOL, pool);
});

suite("memory3", memory3Cases);
suite("memory3", sharedCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("memory3", sharedCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });

const seesKernel = isRoot && KernelAio.open() !== undefined;

describe("refusals about asynchronous I/O", { skip: isRoot ? false : "needs root" }, () => {
  for (const [state, code] of [
    ["polls", "AIO_IN_FLIGHT"],
    ["spoilt", "AIO_RING_BAD"],
  ] as const) {
    // Where requests that wait are seen, they are refused before they come to their end: test/integration/files2-refusals.test.ts.
    const skip = state === "polls" && seesKernel ? "polls are refused as AIO_WAITING here" : false;
    test(`${code}: the process is unharmed`, { skip }, () =>
      withSubject(Subject.withWorkload("memory3/aio-direct", [state]), async (subject) => {
        const { exit, text } = await subject.run(subject.dumpLine());
        assert.equal(exit.code, 1, text);
        assert.ok(text.includes(`[${code}]`), text);
        assert.deepEqual(readdirSync(subject.images), [], "images were kept");
        await subject.judge();
      }),
    );
  }
});
