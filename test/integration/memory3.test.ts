import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";

import { KernelAio } from "../../src/linux/kernel-aio.js";
import { withHugePages } from "../harness/huge-pages.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { memory3Cases, sharedCases } from "../workloads/memory3/cases.js";

withHugePages(40);

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
